"""Everything on disk is an extent: (object, offset, length, codec) -> one decoded slice.

The index of a Zarr shard and the side index of a tar both give extents, so one reader serves
both. Local files are read with `preadv` straight into the caller's buffer where the bytes are
raw, and through one scratch buffer where they are compressed.

Measured on one core: about 90,000 raw slices/s, batches of 64, page cache warm.
"""

import errno
import math
import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from storage.checksums import crc32c
from storage.errors import DamageError, StoreError
from storage.format.chunk_codecs import decode_chunk

Codec = str  # RAW, or that of an inner chunk of Zarr, see `chunk_codecs`
RAW: Codec = "raw"

MAX_OPEN_FILES = 128
ENDS_EARLY = "the file ends before the slice does"
CHANGED = "the checksum differs: bytes have changed since they were written"

Place = tuple[int, int, int, int, int]  # object_no, position in the request, offset, length, crc32c


@dataclass(frozen=True, slots=True, kw_only=True)
class Extents:
    """n extents as arrays, in the order in which the slices are wanted.

    `crc32c` is that of the decoded bytes, uint32 [n]; `codecs` has one codec for each object. Only
    where `remote` is set may objects be URLs.
    """

    objects: tuple[str, ...]
    object_no: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    crc32c: np.ndarray
    codecs: tuple[Codec, ...]
    remote: bool = False

    def __len__(self) -> int:
        return len(self.offset)

    def __getitem__(self, take: slice | np.ndarray) -> "Extents":
        arrays = ("object_no", "offset", "length", "crc32c")
        return replace(self, **{name: getattr(self, name)[take] for name in arrays})

    def object_of(self, position: int) -> str:
        """The path or URL of one extent's object."""
        return self.objects[int(self.object_no[position])]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnnouncedRead:
    """Handle of a read that was announced; reading takes it in place of the extents.

    `request` is the answer under way; None where nothing has to come from an object store.
    """

    extents: Extents
    request: "Future[Any] | None" = None

    @property
    def num_bytes(self) -> int:
        """Bytes of all extents, as stored."""
        return int(self.extents.length.sum())


def find_rows(known: np.ndarray, rows: np.ndarray, url: str) -> np.ndarray:
    """The places of int64 rows [n] in `known`, which increases; StoreError on an unknown row."""
    places = np.searchsorted(known, rows)
    found = places < len(known)
    found[found] = known[places[found]] == rows[found]
    if not found.all():
        raise unknown_row(rows[~found][0], url, len(known))
    return places


def unknown_row(row: int, url: str, num_slices: int) -> StoreError:
    """Returns the error of a row that a store or shard set does not have."""
    return StoreError(f"row {row} is not in {url}, which has {num_slices:,} slices")


@dataclass(frozen=True, slots=True, kw_only=True)
class BadExtent:
    """An extent whose bytes could not be had: its place in the request, and why."""

    position: int
    object: str
    offset: int
    reason: str


class OpenFile:
    """An open file that closes when nobody holds it: one thread cannot close another's."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


def open_path(path: str) -> int:
    """A descriptor of a local file."""
    # a pipe in the place of a file would else block for ever
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


class ExtentReader(AbstractContextManager["ExtentReader"]):
    """Reads extents of local files into arrays. Safe to use from several threads.

    Keeps up to 128 files open, or half of those that the process may have; use it as a context
    manager, or call `close`. `open_file` gives the descriptor of an object, FileNotFoundError where
    there is none.
    """

    def __init__(self, *, check: bool = True, open_file: Callable[[str], int] = open_path) -> None:
        self._check = check
        self._open_file = open_file
        self._disk_blocks = 0
        self._most_files = _most_files()
        self._files: OrderedDict[str, OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all files; the reader may be used again."""
        with self._lock:
            self._files.clear()

    def read(self, extents: Extents, out: np.ndarray) -> None:
        """Fills `out` [n, ...] with decoded slices; raises DamageError at the first bad one."""
        check_none_bad(self.try_read(extents, out), len(extents))

    def try_read(self, extents: Extents, out: np.ndarray) -> list[BadExtent]:
        """Fills `out` [n, ...] with decoded slices; returns those that could not be had.

        The cells of a bad slice are zero.
        """
        views = cells_as_bytes(out, len(extents))
        bad: list[BadExtent] = []
        for object_no, places in groupby(_as_they_lie(extents), key=itemgetter(0)):
            name, codec = extents.objects[object_no], extents.codecs[object_no]
            bad += self._read_file(name, codec, places, views)
        return sorted(bad, key=lambda one: one.position)

    def will_need(self, extents: Extents) -> None:
        """Asks the kernel to fetch these extents ahead of their reading; a hint, never an error.

        Only where this thread has caused reads from the disk since it was last called: for what
        is in the page cache the asking takes a third as long as the reading.
        """
        if not hasattr(os, "posix_fadvise"):  # macOS has none
            return
        blocks = resource.getrusage(resource.RUSAGE_THREAD).ru_inblock
        if blocks == self._disk_blocks:
            return
        self._disk_blocks = blocks
        with suppress(OSError):  # the read itself will say what is wrong
            for object_no, places in groupby(_as_they_lie(extents), key=itemgetter(0)):
                file = self._open(extents.objects[object_no])
                for _, _, offset, length, _ in places:
                    os.posix_fadvise(file.descriptor, offset, length, os.POSIX_FADV_WILLNEED)

    def _open(self, name: str) -> OpenFile:
        with self._lock:
            file = self._files.pop(name, None)
            if file is None:
                file = self._opened(name)
            self._files[name] = file
            if len(self._files) > self._most_files:
                self._files.popitem(last=False)
            return file

    def _opened(self, name: str) -> OpenFile:
        """Opens a file; those that are kept give way where the process may have no more."""
        while True:
            try:
                return OpenFile(self._open_file(name))
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._files:
                    raise
                self._files.popitem(last=False)

    def _read_file(
        self, name: str, codec: Codec, places: Iterable[Place], views: np.ndarray
    ) -> Iterator[BadExtent]:
        """Decodes the extents of one file into their rows of `views`; yields the bad ones."""
        file, problem = None, ""
        try:
            file = self._open(name)
        except FileNotFoundError:
            problem = "the file is missing"
        except OSError as error:
            problem = str(error)
        for _, position, offset, length, crc in places:
            view = views[position]
            reason = problem
            if file is not None:
                reason = self._fill(file.descriptor, offset, length, crc, codec, view)
            if reason:
                view[:] = 0
                yield BadExtent(position=position, object=name, offset=offset, reason=reason)

    def _fill(
        self, file: int, offset: int, length: int, crc: int, codec: Codec, view: np.ndarray
    ) -> str:
        """Decodes one extent into `view`; returns what is wrong, or an empty string."""
        try:
            if codec == RAW and length == view.nbytes:
                if os.preadv(file, [view.data], offset) != length:
                    return ENDS_EARLY
                return CHANGED if self._check and crc32c(view) != crc else ""
            packed = b"" if codec == RAW else os.pread(file, length, offset)
        except OSError as error:
            return str(error)
        return unpack(packed, length, codec, view, crc if self._check else None)


def _most_files() -> int:
    """The number of files that a reader keeps open; others of the process need some, too."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_OPEN_FILES if most == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, most // 2)


def _as_they_lie(extents: Extents) -> Iterator[Place]:
    """The extents file by file, each from its beginning to its end."""
    order = np.lexsort((extents.offset, extents.object_no))
    columns = (extents.object_no, extents.offset, extents.length, extents.crc32c)
    object_no, offset, length, crc = (column[order].tolist() for column in columns)
    return zip(object_no, order.tolist(), offset, length, crc, strict=True)


def check_none_bad(bad: Sequence[BadExtent], num_extents: int) -> None:
    """Raises DamageError where any extent could not be had."""
    if bad:
        first = bad[0]
        raise DamageError(
            f"{len(bad)} of {num_extents} slices cannot be read; the first is in "
            f"{first.object} at byte {first.offset}: {first.reason}. "
            "Run tools.verify on it; --repair builds it again"
        )


def cells_as_bytes(out: np.ndarray, num_slices: int) -> np.ndarray:
    """Each slice as uint8 [n, bytes], a view of contiguous `out` [n, ...]."""
    if len(out) != num_slices or not out.flags.c_contiguous:
        raise ValueError(f"out must be contiguous with {num_slices} rows, not {out.shape}")
    return out.view(np.uint8).reshape(len(out), math.prod(out.shape[1:]) * out.itemsize)


def unpack(
    packed: bytes | memoryview, length: int, codec: Codec, view: np.ndarray, crc: int | None
) -> str:
    """Decodes one extent into `view`, uint8; returns what is wrong, or an empty string.

    `crc`: that of the decoded bytes; None: not checked.
    """
    if codec == RAW and length != view.nbytes:
        return f"{length} bytes where a slice has {view.nbytes}"
    if len(packed) != length:
        return ENDS_EARLY
    try:
        if codec == RAW:
            view.data[:] = packed
        else:
            decode_chunk(packed, codec, view)
    except (DamageError, RuntimeError, ValueError) as error:
        return str(error)
    return "" if crc is None or crc32c(view) == crc else CHANGED
