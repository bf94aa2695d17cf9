"""Memory of the host: kept from step to step, given back and measured between folds."""

import ctypes
import gc
import sys
from dataclasses import dataclass

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
    import psutil
    import torch  # seconds, which tables of scores can do without

    gc.collect()
    torch.cuda.empty_cache()  # without a GPU it does nothing
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps free pages otherwise
        if trim is not None:
            trim(0)
    return MemoryLeft(
        host_bytes=psutil.Process().memory_info().rss, gpu_bytes=torch.cuda.memory_allocated()
    )
