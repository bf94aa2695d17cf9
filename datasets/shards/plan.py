"""Assigns recordings to shards: pure functions of the wanted and the held recordings."""

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
from datasets.slice_source import ranges, row_bounds
from storage.errors import StoreError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wanted:
    """Recordings that the set shall hold, and the lines of all their slices, in order."""

    recordings: pl.DataFrame
    lines: pl.DataFrame

    @classmethod
    def of(cls, recordings: pl.DataFrame, slice_index: pl.DataFrame, url: str) -> "Wanted":
        """Builds from tables; raises StoreError where the index lacks slices of recordings."""
        rows = slice_index["row"].to_numpy()
        count = _counts(recordings)
        begins, ends = np.searchsorted(rows, row_bounds(recordings))
        if not np.array_equal(ends - begins, count):
            raise StoreError(f"{url}: the index and the recordings differ: run tools.verify on it")
        lines = slice_index
        if count.sum() < len(slice_index):
            lines = slice_index[ranges(begins, count)]
        return cls(recordings=recordings, lines=lines)

    @property
    def starts(self) -> np.ndarray:
        """Index of each recording's first slice in `lines`, int64."""
        count = _counts(self.recordings)
        return np.asarray(np.cumsum(count) - count)

    def line_numbers(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the indices in `lines` of the slices of these recordings, int64."""
        return ranges(self.starts[numbers], _counts(self.recordings)[numbers])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WritePlan:
    """Plan of a run: the lines kept and the shards to write.

    `kept`: lines of `Held`. `shards`: name -> numbers of the wanted recordings.
    """

    kept: pl.DataFrame
    shards: dict[str, np.ndarray]

    def digest(self, wanted: Wanted, identity: str) -> str:
        """Hashes all that the tars depend on, except the cells: 32 hex digits."""
        hasher = hashlib.blake2b(identity.encode(), digest_size=16)
        about = wanted.recordings.select(*ABOUT_RECORDING, "first_row", "num_slices")
        crc32c = wanted.lines["crc32c"].to_numpy()
        for name, numbers in self.shards.items():
            hasher.update(f"{name}\n{about[numbers].write_ndjson()}".encode())
            hasher.update(crc32c[wanted.line_numbers(numbers)].astype("<u4").tobytes())
        return hasher.hexdigest()


def plan_writing(
    wanted: Wanted,
    held: Held,
    is_complete: Callable[[str, FileEntry], bool],
    *,
    slice_bytes: int,
    shard_size_bytes: int,
) -> WritePlan:
    """Keeps recordings that are held unchanged; the others fill new shards.

    The recordings of a missing or truncated shard are written again under its name.
    """
    names = list(held.entries)
    lines = held.lines.sort("row")
    found, shard_of = _find_held(wanted, lines, names)
    complete = np.array([is_complete(name, entry) for name, entry in held.entries.items()], bool)
    stays = shard_of >= 0
    stays[stays] = complete[shard_of[stays]]
    shards = {
        names[shard]: np.flatnonzero(shard_of == shard)
        for shard in np.unique(shard_of[(shard_of >= 0) & ~stays]).tolist()
    }
    new = np.flatnonzero(shard_of < 0)
    next_number = 1 + max((shard_number(name) for name in names), default=-1)
    pieces = cut_into_shards(_counts(wanted.recordings)[new], slice_bytes, shard_size_bytes)
    for number, piece in enumerate(pieces, next_number):
        shards[shard_name(number)] = new[piece]
    kept = lines[found[wanted.line_numbers(np.flatnonzero(stays))]]
    return WritePlan(kept=kept, shards=dict(sorted(shards.items())))


def cut_into_shards(
    num_slices: np.ndarray, slice_bytes: int, shard_size_bytes: int
) -> list[np.ndarray]:
    """Returns the recordings of each shard, by index: in order, as many as fit, at least one."""
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
    """Returns the index in `lines` of each wanted slice, and the shard of each wanted recording.

    The shard is -1 where none holds all slices unchanged. Rows are never reused, so slices are
    equal where row and checksum are.
    """
    count = _counts(wanted.recordings)
    if lines.is_empty() or not len(count):
        return np.zeros(len(wanted.lines), np.int64), np.full(len(count), -1)
    numbers = {name: number for number, name in enumerate(names)}
    held_in = lines["shard"].replace_strict(numbers, return_dtype=pl.Int32).to_numpy()
    rows, crc32c = (wanted.lines[name].to_numpy() for name in ("row", "crc32c"))
    known = lines["row"].to_numpy()
    index = np.minimum(np.searchsorted(known, rows), len(known) - 1)
    same = (known[index] == rows) & (lines["crc32c"].to_numpy()[index] == crc32c)
    shard = np.where(same, held_in[index], -1)
    edges = (np.minimum, np.maximum)
    lowest, highest = (edge.reduceat(shard, wanted.starts) for edge in edges)
    return index, np.where(lowest == highest, lowest, -1)


def _counts(recordings: pl.DataFrame) -> np.ndarray:
    return recordings["num_slices"].to_numpy().astype(np.int64)
