"""Which recordings go into which shard, as pure functions of what is wanted and what is held."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.shards.format import (
    ABOUT_RECORDING,
    TAR_BLOCK_BYTES,
    FileEntry,
    padded,
    shard_name,
    shard_number,
)
from datasets.shards.state import Held
from storage.errors import StoreError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wanted:
    """The recordings that a set shall hold, and the lines of all their slices, in order."""

    recordings: pl.DataFrame
    lines: pl.DataFrame

    @classmethod
    def of(cls, recordings: pl.DataFrame, slice_index: pl.DataFrame, url: str) -> "Wanted":
        """Raises StoreError where the index does not hold the slices of the recordings."""
        rows = slice_index["row"].to_numpy()
        first, count = recordings["first_row"].to_numpy(), _counts(recordings)
        begins, ends = np.searchsorted(rows, [first, first + count])
        if not np.array_equal(ends - begins, count):
            raise StoreError(f"{url}: the index and the recordings differ: run tools.verify on it")
        lines = slice_index
        if count.sum() < len(slice_index):
            lines = slice_index[_ranges(begins, count)]
        return cls(recordings=recordings, lines=lines)

    @property
    def starts(self) -> np.ndarray:
        """Where the first slice of each recording stands in `lines`."""
        count = _counts(self.recordings)
        starts: np.ndarray = np.cumsum(count) - count
        return starts

    def places(self, numbers: np.ndarray) -> np.ndarray:
        """Where the slices of these recordings stand in `lines`."""
        return _ranges(self.starts[numbers], _counts(self.recordings)[numbers])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WritePlan:
    """What stays where it is, and what is written.

    `kept`: the lines of `Held` that stay. `shards`: name -> numbers of the wanted recordings.
    """

    kept: pl.DataFrame
    shards: dict[str, np.ndarray]

    def digest(self, wanted: Wanted, identity: str) -> str:
        """32 hex digits of all that the tars depend on, apart from the cells themselves."""
        hasher = hashlib.blake2b(identity.encode(), digest_size=16)
        about = wanted.recordings.select(*ABOUT_RECORDING, "first_row", "num_slices")
        crc32c = wanted.lines["crc32c"].to_numpy()
        for name, numbers in self.shards.items():
            hasher.update(f"{name}\n{about[numbers].write_ndjson()}".encode())
            hasher.update(crc32c[wanted.places(numbers)].astype("<u4").tobytes())
        return hasher.hexdigest()


def plan_writing(
    wanted: Wanted,
    held: Held,
    is_complete: Callable[[str, FileEntry], bool],
    *,
    slice_bytes: int,
    shard_size_bytes: int,
) -> WritePlan:
    """Recordings that are held as they are now stay; the others fill new shards.

    What a shard held that is no longer whole is written again under its name.
    """
    names = list(held.entries)
    lines = held.lines.sort("row")
    places, shard_of = _find_held(wanted, lines, names)
    whole = np.array([is_complete(name, entry) for name, entry in held.entries.items()], bool)
    stays = shard_of >= 0
    stays[stays] = whole[shard_of[stays]]
    shards = {
        names[shard]: np.flatnonzero(shard_of == shard)
        for shard in np.unique(shard_of[(shard_of >= 0) & ~stays]).tolist()
    }
    new = np.flatnonzero(shard_of < 0)
    next_number = 1 + max((shard_number(name) for name in names), default=-1)
    pieces = cut_into_shards(_counts(wanted.recordings)[new], slice_bytes, shard_size_bytes)
    for number, piece in enumerate(pieces, next_number):
        shards[shard_name(number)] = new[piece]
    kept = lines[places[wanted.places(np.flatnonzero(stays))]]
    return WritePlan(kept=kept, shards=dict(sorted(shards.items())))


def cut_into_shards(
    num_slices: np.ndarray, slice_bytes: int, shard_size_bytes: int
) -> list[np.ndarray]:
    """The recordings of each shard, by place: whole, in order, as many as fit, at least one."""
    sample_bytes = padded(slice_bytes) + 4 * TAR_BLOCK_BYTES  # headers, .npy header, .json
    ends = np.cumsum(num_slices.astype(np.int64)) * sample_bytes
    pieces, first, filled = [], 0, 0
    while first < len(ends):
        last = int(np.searchsorted(ends, filled + shard_size_bytes, side="right"))
        last = max(last, first + 1)
        pieces.append(np.arange(first, last))
        first, filled = last, int(ends[last - 1])
    return pieces


def _find_held(
    wanted: Wanted, lines: pl.DataFrame, names: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The place of each wanted slice in `lines`, and the shard of each wanted recording.

    -1 where no shard holds all its slices, unchanged. Rows are never used again, so a slice is the
    same where its row and its checksum are.
    """
    count = _counts(wanted.recordings)
    if lines.is_empty() or not len(count):
        return np.zeros(len(wanted.lines), np.int64), np.full(len(count), -1)
    numbers = {name: number for number, name in enumerate(names)}
    held_in = lines["shard"].replace_strict(numbers, return_dtype=pl.Int32).to_numpy()
    rows, crc32c = (wanted.lines[name].to_numpy() for name in ("row", "crc32c"))
    known = lines["row"].to_numpy()
    places = np.minimum(np.searchsorted(known, rows), len(known) - 1)
    same = (known[places] == rows) & (lines["crc32c"].to_numpy()[places] == crc32c)
    shard = np.where(same, held_in[places], -1)
    edges = (np.minimum, np.maximum)
    lowest, highest = (edge.reduceat(shard, wanted.starts) for edge in edges)
    return places, np.where(lowest == highest, lowest, -1)


def _counts(recordings: pl.DataFrame) -> np.ndarray:
    return recordings["num_slices"].to_numpy().astype(np.int64)


def _ranges(begins: np.ndarray, count: np.ndarray) -> np.ndarray:
    """begin, begin + 1, ... for each of the counts, end to end."""
    total = int(count.sum())
    ranges: np.ndarray = np.repeat(begins - np.cumsum(count) + count, count) + np.arange(total)
    return ranges
