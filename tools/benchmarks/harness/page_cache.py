"""Files into the page cache, and out of it again."""

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np

_READ_BYTES = 1 << 22


def warm(target: Path) -> None:
    """Reads a file, or all files below a folder."""
    for file in _files(target):
        with file.open("rb", buffering=0) as opened:
            while opened.read(_READ_BYTES):
                pass


def evict(target: Path) -> float:
    """Asks the kernel to drop a file, or all below a folder; returns the share that stayed."""
    os.sync()  # a page that is not on the disk yet cannot be dropped
    pages = resident = 0
    for file in _files(target):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            stayed = resident_pages(opened.fileno())
        pages += len(stayed)
        resident += int(stayed.sum())
    return resident / pages if pages else 0.0


def resident_pages(descriptor: int) -> np.ndarray:
    """True for each page of an open file that is in the page cache, bool [pages]."""
    size = os.fstat(descriptor).st_size
    if not size:
        return np.zeros(0, bool)
    found = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as mapped:
        view = np.frombuffer(mapped, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        address = ctypes.c_void_p(view.ctypes.data)
        failed = libc.mincore(address, ctypes.c_size_t(size), ctypes.c_void_p(found.ctypes.data))
        del view  # or the map could not be closed
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, f"mincore: {os.strerror(number)}")
    return (found & 1).astype(bool)


def _files(target: Path) -> list[Path]:
    return [path for path in (target, *sorted(target.rglob("*"))) if path.is_file()]
