"""Plan of one round of building: the recordings of each part, and the jobs of the workers.

A part is a run of recordings that fills whole zarr shards which no other part touches. A plan is
written before the work starts, so that a build that was killed goes on with the same parts, and
ends with the same bytes. Recordings that turn out not to fit are planned again, after the last
part, with slice counts got by decoding. Light to import: planning needs no torch.
"""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from storage.audio.channels import MEAN
from storage.audio.slicing import num_slices
from storage.format.tables import PLAN_SCHEMA
from storage.format.zarr_shards import SLICES_PER_ZARR_SHARD
from storage.objects.client import DEFAULT, RemoteConfig
from storage.recipe import Recipe
from storage.source.kinds import intake_of

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PartJob:
    """All that a worker needs.

    `recordings` has the plan's columns and `path`, `metadata` the columns of the csv, for each of
    them. `channel` as in `SourceConfig`.
    """

    url: str
    range: PartRange
    recipe: Recipe
    codec: str
    filterbank_MF: np.ndarray
    recordings: pl.DataFrame
    metadata: pl.DataFrame
    remote: RemoteConfig = DEFAULT
    channel: str = MEAN


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """Result of one part; `conflict` names an object that another build had written there."""

    part: int
    num_slices: int = 0
    conflict: str = ""


def part_slices(total_slices: int) -> int:
    """Number of slices per part: about 64 parts, or well-filled zarr shards.

    Small stores get parts of at least 256 slices, so that several workers have something to do;
    large ones whole zarr shards less a spare, at most 64 of them.
    """
    even = max(MIN_PART_SLICES, math.ceil(total_slices / NUM_PARTS))
    shards = min(MAX_PART_SHARDS, max(1, round(even / SLICES_PER_ZARR_SHARD)))
    return min(even, int(shards * SLICES_PER_ZARR_SHARD / (1 + SPARE)))


def expected_slices(
    pending: pl.DataFrame, recipe: Recipe, remote: RemoteConfig, earlier: pl.DataFrame | None = None
) -> pl.Series:
    """Slices per pending recording, int64 [n].

    By its header; by decoding it where an earlier plan held it without result, as its header was
    wrong. Nothing for duplicates and for what cannot be used.
    """
    tried = set() if earlier is None else set(earlier.select("recording_id", "content_hash").rows())
    counts = []
    for row in pending.iter_rows(named=True):
        if row["reason"] or row["duplicate_of"]:
            counts.append(0)
        elif (row["recording_id"], row["content_hash"]) in tried:
            counts.append(intake_of(recipe, remote).count_slices(row["path"]))
        else:
            num_samples = round(row["header_s"] * recipe.sample_rate_hz)
            counts.append(max(1, num_slices(num_samples, recipe)))
    return pl.Series("expected_slices", counts, pl.Int64)


def plan_parts(
    pending: pl.DataFrame, target: int, first_part: int, first_shard: int
) -> pl.DataFrame:
    """Groups pending recordings, in their order, into parts of about `target` slices.

    `pending` has recording_id, filename, content_hash, expected_slices, duplicate_of, reason.
    """
    numbers: list[int] = []
    held: list[int] = []  # slices of each part
    for count in pending["expected_slices"]:
        if not held or (held[-1] and held[-1] + count > target):
            held.append(0)
        held[-1] += count
        numbers.append(len(held) - 1)
    shards = [max(1, math.ceil(slices * (1 + SPARE) / SLICES_PER_ZARR_SHARD)) for slices in held]
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
    return [PartRange(**row) for row in rows.iter_rows(named=True)]
