"""Memory of the host: kept from step to step, given back and measured between folds."""

import ctypes
import gc
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

MB = 1e6
KEPT_BYTES = 1 << 28
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLeft:
    """Memory of a process: resident on the host, and allocated by torch on the GPU, bytes."""

    host_bytes: int
    gpu_bytes: int = 0

    def __str__(self) -> str:
        """In MB; `820+35` where there is something on a GPU."""
        gpu = f"+{self.gpu_bytes / MB:.0f}" if self.gpu_bytes else ""
        return f"{self.host_bytes / MB:.0f}{gpu}"


def keep_freed_memory() -> None:
    """Lets the next tensors have the pages of those that are gone, up to 256 MB, instead of the
    system: of a training step on a CPU, fresh pages took a quarter of the time.

    For the whole process; without glibc it does nothing. `release_memory` gives them back.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)


def release_memory() -> MemoryLeft:
    """Collects what nobody refers to, gives it back to the system, and says what is left."""
    gc.collect()
    gpu_bytes = 0
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        gpu_bytes = torch.cuda.memory_allocated()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps free pages otherwise
        if trim is not None:
            trim(0)
    return MemoryLeft(host_bytes=resident_bytes(), gpu_bytes=gpu_bytes)


def resident_bytes() -> int:
    """The resident size of this process, 0 where there is no /proc to read it from."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
