"""Slices that ranged requests have brought, kept until their shards are whole in the cache.

    KEY.kept    as long as the shard, sparse: each kept slice at its place in the shard;
                then a mark of one byte for each 512 bytes of the shard where a slice begins

So a slice passes over the line once by ranges, in whatever order epochs draw them, while the shards
are still on their way. Any process may write, and read what others have written: a mark is only a
hint. Who reads checks the checksum of the slice, and a slice that differs is requested again. So
neither a killed process nor a power cut leaves anything that is believed.
"""

import mmap
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from storage.read.cache import ShardCache

MARK_EVERY_BYTES = 512  # less than any slice that is worth its request
_LOOK_EVERY_BYTES = 16 * 2**20  # written, after which the room in the folder is looked at again


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Marks:
    """Marks mapped from a file, uint8, and the inode of that file."""

    cells: np.ndarray
    inode: int


class KeptSlices:
    """The kept slices in the folder of a cache. Safe for threads and processes.

    Slices are identified by the key of their shard and their offset. Any method may raise OSError.
    """

    def __init__(self, cache: ShardCache) -> None:
        self._cache = cache
        self._marks: dict[str, _Marks] = {}
        self._written_bytes = 0  # since the room was looked at
        self._has_room = True
        self._lock = threading.Lock()

    def find(self, key: str, size_bytes: int) -> None:
        """Looks for what others have kept of a shard."""
        if key not in self._marks and self._cache.kept_path(key).exists():
            self._open_marks(key, size_bytes)

    def has(self, key: str, offsets: np.ndarray) -> np.ndarray:
        """Returns a mask, bool [n], of the slices that are probably here."""
        marks = self._marks.get(key)
        if marks is None:
            return np.zeros(len(offsets), bool)
        places = offsets // MARK_EVERY_BYTES
        in_shard = places < len(marks.cells)  # else the shard was replaced by a smaller one
        mask: np.ndarray = in_shard & (marks.cells[np.where(in_shard, places, 0)] != 0)
        return mask

    def open(self, key: str) -> int:
        """Returns a descriptor of the file, for the caller to close; FileNotFoundError."""
        return os.open(self._cache.kept_path(key), os.O_RDONLY)

    def put(self, key: str, size_bytes: int, slices: Sequence[tuple[int, memoryview]]) -> None:
        """Writes slices (offset, stored bytes); nothing where the cache has no room for them."""
        if not self._check_room() or self._cache.holds(key):
            return
        marks = self._open_marks(key, size_bytes)
        file = os.open(self._cache.kept_path(key), os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            for offset, data in slices:
                if offset + len(data) > size_bytes:  # of another version
                    continue
                view, at = memoryview(data), offset
                while view:
                    written = os.pwrite(file, view, at)
                    view, at = view[written:], at + written
                marks.cells[offset // MARK_EVERY_BYTES] = 1
                self._written_bytes += len(data)
        finally:
            os.close(file)

    def forget(self, key: str, offset: int) -> None:
        """Removes the mark of a slice whose bytes are not those of the slice."""
        marks = self._marks.get(key)
        if marks is not None and offset // MARK_EVERY_BYTES < len(marks.cells):
            marks.cells[offset // MARK_EVERY_BYTES] = 0
            self._unmap_deleted(key)

    def drop(self, key: str) -> None:
        """Deletes what was kept of a shard."""
        self._marks.pop(key, None)
        self._cache.kept_path(key).unlink(missing_ok=True)

    def _check_room(self) -> bool:
        """True while the folder, with all that is kept, is within its limit."""
        if self._written_bytes >= _LOOK_EVERY_BYTES or not self._has_room:
            for key in list(self._marks):
                self._unmap_deleted(key)
            self._has_room = self._cache.has_room()
            self._written_bytes = 0
        return self._has_room

    def _open_marks(self, key: str, size_bytes: int) -> "_Marks":
        """Returns the marks of a shard; makes the file where there is none."""
        with self._lock:
            self._unmap_deleted(key)
            marks = self._marks.get(key)
            if marks is None:
                marks = self._marks[key] = _map_marks(self._cache, key, size_bytes)
            return marks

    def _unmap_deleted(self, key: str) -> None:
        """Lets go of marks whose file was deleted, by whomever: mapped, it would keep its room."""
        marks = self._marks.get(key)
        if marks is not None and marks.inode != _inode(self._cache.kept_path(key)):
            self._marks.pop(key, None)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _map_marks(cache: ShardCache, key: str, size_bytes: int) -> _Marks:
    """Maps the marks at the end of a file.

    They are written, not left as a hole: a full disk is an error here, where a first access to a
    mapped hole would end the process.
    """
    num_marks = -(-size_bytes // MARK_EVERY_BYTES)
    begin = -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
    cache.folder.mkdir(parents=True, exist_ok=True)
    file = os.open(cache.kept_path(key), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if os.fstat(file).st_size != begin + num_marks:  # of two who do so one may lose its marks
            _write_zeros(file, num_marks, begin)
        mapped, inode = mmap.mmap(file, num_marks, offset=begin), os.fstat(file).st_ino
    finally:
        os.close(file)
    return _Marks(cells=np.frombuffer(mapped, np.uint8), inode=inode)


def _write_zeros(file: int, num_bytes: int, offset: int) -> None:
    view = memoryview(bytes(num_bytes))
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
