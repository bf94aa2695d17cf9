"""Whole shards of an object store in a local folder of limited size, shared by processes.

    KEY.shard        whole; the oldest use goes first when room is needed
    KEY.SIZE.part    under way, locked (flock) by who writes it; counts as SIZE bytes
    KEY.kept         slices of a shard that is not whole yet (`storage.read.kept`); goes first

A key names one version of an object, so a replaced object is another key. A shard gets its name by
a rename once all bytes are there: what is half written is never read. A lock ends with its process:
a part that nobody holds is what a killed one has left, and is deleted. Nobody waits for a lock. Who
has an evicted shard open goes on reading it.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import threading
from pathlib import Path

WHOLE, PART, KEPT = ".shard", ".part", ".kept"
_BLOCK_BYTES = 512  # of st_blocks, whatever the file system has
_PART_NAME = re.compile(r"[0-9a-f]+\.(\d+)\.part")


def shard_key(url: str, *, size_bytes: int, version: str) -> str:
    """The key, in hex, of one version (etag, or time of change) of the object at a URL."""
    text = f"{url}\n{size_bytes}\n{version}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class ShardCache:
    """The shards in a folder. Safe for threads and processes; any method may raise OSError."""

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def open(self, key: str, size_bytes: int) -> int | None:
        """A descriptor of a whole shard, for the caller to close; None where it is not here."""
        path = self._whole(key)
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        if os.fstat(file).st_size != size_bytes:  # a power cut, after the rename: none is synced
            os.close(file)
            self.discard(key)
            return None
        with contextlib.suppress(FileNotFoundError):  # evicted just now; it stays readable
            os.utime(path)
        return file

    def holds(self, key: str) -> bool:
        """True where a shard is here and complete."""
        return self._whole(key).exists()

    def kept_path(self, key: str) -> Path:
        """Path of the slices of a shard that is not whole yet."""
        return self.folder / f"{key}{KEPT}"

    def has_room(self) -> bool:
        """True while all that is here and under way is within the limit."""
        return self._under_way_bytes() + sum(one[2] for one in self._old()) <= self.limit_bytes

    def is_empty(self) -> bool:
        """True where no shard is here, and no slice of one."""
        return not any(path.suffix in (WHOLE, KEPT) for path in self.folder.glob("*"))

    def discard(self, key: str) -> None:
        """Deletes a shard, such as one with bytes that have changed on this disk."""
        self._whole(key).unlink(missing_ok=True)

    def claim(self, key: str, size_bytes: int) -> "ShardClaim | None":
        """The right to write a shard; deletes older ones to make room.

        None where it is here already, where another process or thread is at it, and where there
        is no room next to what is under way.
        """
        if size_bytes > self.limit_bytes:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f"{key}.{size_bytes}{PART}"
        file = _lock(part)
        if file is None:
            return None
        claim = ShardClaim(file=file, part=part, whole=self._whole(key))
        try:
            if self.holds(key) or not self._make_room(part):
                claim.close()
                return None
            os.ftruncate(file, 0)  # what a killed process may have left
        except OSError:
            claim.close()
            raise
        return claim

    def clear_leftovers(self) -> None:
        """Deletes what killed processes have left half written, or kept of whole shards."""
        for path in self.folder.glob(f"*{KEPT}"):
            if path.with_suffix(WHOLE).exists():
                path.unlink(missing_ok=True)
        for path in self._parts():
            file = _lock(path, create=False)
            if file is not None:
                path.unlink(missing_ok=True)
                os.close(file)

    def _make_room(self, mine: Path) -> bool:
        """Deletes old shards; True where the rest, with running downloads, is within the limit.

        Who asks has its own part there already: two who ask at once see each other, and make room
        for both.
        """
        self.clear_leftovers()
        total = self._under_way_bytes(mine)
        old = self._old()
        total += sum(num_bytes for _, _, num_bytes, _ in old)
        for _, _, num_bytes, path in old:
            if total <= self.limit_bytes:
                break
            path.unlink(missing_ok=True)
            total -= num_bytes
        return total <= self.limit_bytes

    def _under_way_bytes(self, *mine: Path) -> int:
        return sum(int(path.name.split(".")[1]) for path in {*mine, *self._parts()})

    def _old(self) -> list[tuple[bool, int, int, Path]]:
        """Files to be deleted for room, in order: kept slices, then shards, the oldest use first.

        Each is (is a shard, time of use in ns, bytes on the disk, path).
        """
        found = []
        for path in [*self.folder.glob(f"*{WHOLE}"), *self.folder.glob(f"*{KEPT}")]:
            with contextlib.suppress(FileNotFoundError):  # another process evicts too
                stat, is_shard = path.stat(), path.suffix == WHOLE
                num_bytes = stat.st_size if is_shard else stat.st_blocks * _BLOCK_BYTES
                found.append((is_shard, stat.st_mtime_ns, num_bytes, path))
        return sorted(found)

    def _whole(self, key: str) -> Path:
        return self.folder / f"{key}{WHOLE}"

    def _parts(self) -> list[Path]:
        return [path for path in self.folder.glob(f"*{PART}") if _PART_NAME.match(path.name)]


class ShardClaim(contextlib.AbstractContextManager["ShardClaim"]):
    """The right of one thread to write one shard; given back when closed."""

    def __init__(self, *, file: int, part: Path, whole: Path) -> None:
        self._file = file
        self._part = part
        self._whole = whole
        self._open = True
        self._lock = threading.Lock()

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Writes bytes at their place, in any order; nothing any more once it is closed."""
        view = memoryview(data)
        with self._lock:  # else the descriptor might be another file's by now
            while view and self._open:
                written = os.pwrite(self._file, view, offset)
                view, offset = view[written:], offset + written

    def commit(self) -> None:
        """All bytes are written: the shard is there from now on."""
        os.utime(self._file)
        os.rename(self._part, self._whole)
        self._end()

    def close(self) -> None:
        """Gives up, unless it is committed; deletes what was written."""
        if self._open:
            self._part.unlink(missing_ok=True)
            self._end()

    def _end(self) -> None:
        with self._lock:
            self._open = False
            os.close(self._file)  # what flock locks goes with it


def _lock(path: Path, *, create: bool = True) -> int | None:
    """A descriptor that holds the lock of a part; None where another has it."""
    while True:
        try:
            file = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o644)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):
                return file
        except BlockingIOError:
            os.close(file)
            return None
        except OSError:
            os.close(file)
            raise
        os.close(file)  # meanwhile it was committed, or deleted: what is locked is not the part


def _is_at(file: int, path: Path) -> bool:
    """True where a name still refers to an open file."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
