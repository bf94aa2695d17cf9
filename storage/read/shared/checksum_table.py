"""Checksums of a large store's slices in one file, which all processes of a machine share.

A process that reads slices needs the crc32c of each. For millions of slices they come from a file
in the cache folder that is mapped into memory: 4 bytes a slice, once for all processes, and given
back by the kernel where memory is short. The first process makes it from the index tables, part by
part, and names it after the sha256 of those tables: other tables, another file. The tables remain
the truth: a file that is damaged or cut short is made again, and where none can be written (full
disk, folder without rights) the process reads the tables into its own memory.

    bytes 0-15 magic, 16-23 number of slices, 24-27 crc32c of the checksums, from byte 64 on these
"""

import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

from storage.checksums import crc32c
from storage.read.shared.derived_files import CHECKSUMS, note_use, write_derived

_MAGIC = b"melbank crc32c 1"
_HEADER = struct.Struct("<16sQI")
_HEADER_BYTES = 64
_TYPE = np.dtype("<u4")


class SliceNumbers:
    """Places of slices by row, where each recording has all rows from its first one on.

    `first_row` int64 [n] increases, `count` int [n]; what this keeps is 8 bytes a recording.
    """

    def __init__(self, first_row: np.ndarray, count: np.ndarray) -> None:
        self._first_row = first_row
        self._ends = np.cumsum(count, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def find(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the places of int64 rows [n], and a mask of those that there are."""
        if not len(self._ends):
            return np.zeros(len(rows), np.int64), np.zeros(len(rows), bool)
        number = np.searchsorted(self._first_row, rows, side="right") - 1
        begins = np.where(number > 0, self._ends[number.clip(1) - 1], 0)
        place = begins + rows - self._first_row[number]
        return place, (number >= 0) & (place < self._ends[number])

    def row_at(self, place: np.ndarray) -> np.ndarray:
        """Returns the rows of places, int64."""
        number = np.searchsorted(self._ends, place, side="right")
        begins = np.where(number > 0, self._ends[number - 1], 0)
        return np.asarray(self._first_row[number] + place - begins)


def open_table(folder: Path, key: str, length: int) -> np.ndarray | None:
    """Maps the checksums of a key, uint32 [length]; None where they are not here, or damaged.

    May raise OSError.
    """
    path = folder / f"{key}{CHECKSUMS}"
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        header = os.pread(file, _HEADER.size, 0)
        size = os.fstat(file).st_size
    finally:
        os.close(file)
    if size != _HEADER_BYTES + length * _TYPE.itemsize or len(header) != _HEADER.size:
        return None
    found = np.memmap(path, _TYPE, mode="r", offset=_HEADER_BYTES, shape=(length,))
    if header != _HEADER.pack(_MAGIC, length, crc32c(found)):
        return None
    note_use(path)
    return np.asarray(found)


def write_table(folder: Path, key: str, length: int, pieces: Iterable[np.ndarray]) -> bool:
    """Writes checksums, piece by piece; False where there are fewer. May raise OSError."""

    def write(file: IO[bytes]) -> bool:
        file.seek(_HEADER_BYTES)
        written = sum(file.write(np.ascontiguousarray(one, _TYPE).data) for one in pieces)
        if written != length * _TYPE.itemsize:
            return False
        file.flush()
        body = np.memmap(file, _TYPE, mode="r", offset=_HEADER_BYTES, shape=(length,))
        file.seek(0)
        file.write(_HEADER.pack(_MAGIC, length, crc32c(body)))
        return True

    return write_derived(folder / f"{key}{CHECKSUMS}", write)


def live_lines(index: pl.DataFrame, recordings: pl.DataFrame) -> np.ndarray | None:
    """Finds the lines of a part's index that are of live recordings, bool [m].

    `index` has row and recording_id of a part, `recordings` the live ones by `first_row`. None
    where a recording has rows of another, or lacks some.
    """
    rows = index["row"].to_numpy()
    first, count = (recordings[name].to_numpy() for name in ("first_row", "num_slices"))
    low, high = np.searchsorted(first, [rows[0], rows[-1] + 1]) if len(rows) else (0, 0)
    first, count = first[low:high], count[low:high].astype(np.int64)
    begins, ends = np.searchsorted(rows, [first, first + count])
    if not np.array_equal(ends - begins, count):
        return None
    inside = np.zeros(len(rows) + 1, np.int8)
    np.add.at(inside, begins, 1)
    np.add.at(inside, ends, -1)
    covered = np.cumsum(inside[:-1], dtype=np.int8)
    if len(covered) and covered.max() > 1:
        return None
    held: np.ndarray = covered > 0
    ids = recordings["recording_id"][low:high].gather(np.repeat(np.arange(len(count)), count))
    return None if (index["recording_id"].filter(pl.Series(held)) != ids).any() else held
