"""Plan of one round of building: the recordings of each part.

A part is a run of recordings that fills whole zarr shards which no other part touches. A plan is
written before the work starts, so that a build that was killed goes on with the same parts, and
ends with the same bytes. Recordings that turn out not to fit are planned again, after the last
part, with slice counts got by decoding.
"""

import math
from dataclasses import dataclass

import polars as pl

from storage.format.tables import PLAN_SCHEMA
from storage.format.zarr_shards import SLICES_PER_ZARR_SHARD

NUM_PARTS = 64
MIN_PART_SLICES = 256
MAX_PART_SHARDS = 64
SPARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRange:
    """A part's number and the zarr shards that are its own."""

    part: int
    first_shard: int
    num_shards: int

    @property
    def first_row(self) -> int:
        """Its first row."""
        return self.first_shard * SLICES_PER_ZARR_SHARD

    @property
    def end_shard(self) -> int:
        """One past its last zarr shard."""
        return self.first_shard + self.num_shards

    @property
    def capacity(self) -> int:
        """Number of slices that it can hold."""
        return self.num_shards * SLICES_PER_ZARR_SHARD


def part_slices(total_slices: int) -> int:
    """Number of slices per part: about 64 parts, or well-filled zarr shards.

    Small stores get parts of at least 256 slices, so that several workers have something to do;
    large ones whole zarr shards less a spare, at most 64 of them.
    """
    even = max(MIN_PART_SLICES, math.ceil(total_slices / NUM_PARTS))
    shards = min(MAX_PART_SHARDS, max(1, round(even / SLICES_PER_ZARR_SHARD)))
    return min(even, int(shards * SLICES_PER_ZARR_SHARD / (1 + SPARE)))


def plan_parts(
    pending: pl.DataFrame, target: int, first_part: int, first_shard: int
) -> pl.DataFrame:
    """Groups pending recordings, in their order, into parts of about `target` slices.

    `pending` has recording_id, filename, content_hash, expected_slices, duplicate_of, reason.
    """
    expected = pending["expected_slices"].to_list()
    numbers: list[int] = []
    ranges: list[int] = []
    held = 0
    for count in expected:
        if not ranges or (held and held + count > target):
            ranges.append(0)
            held = 0
        held += count
        ranges[-1] = held
        numbers.append(len(ranges) - 1)
    shards = [max(1, math.ceil(held * (1 + SPARE) / SLICES_PER_ZARR_SHARD)) for held in ranges]
    starts = [first_shard + sum(shards[:number]) for number in range(len(shards))]
    return pending.select(
        pl.Series("part", [first_part + number for number in numbers], pl.Int32),
        pl.Series("first_shard", [starts[number] for number in numbers], pl.Int64),
        pl.Series("num_shards", [shards[number] for number in numbers], pl.Int32),
        *(pl.col(name).cast(PLAN_SCHEMA[name]) for name in list(PLAN_SCHEMA)[3:]),
    )


def part_ranges(plan: pl.DataFrame) -> list[PartRange]:
    """The parts of a plan, in order."""
    rows = plan.select("part", "first_shard", "num_shards").unique().sort("part")
    return [
        PartRange(part=part, first_shard=first, num_shards=count)
        for part, first, count in rows.iter_rows()
    ]
