"""Buffer pool: memory of batches, reused as soon as no reference to it is left.

A fresh buffer costs a page fault per 4 kB, several times what filling it costs. Ordinary memory
is pooled: a buffer is free again when the last tensor or array on it is gone, so a caller may keep
a batch for as long as it likes. Where this process uses CUDA, torch's own pool of pinned
memory does the same, and waits for pending copies.
"""

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor


def _num_references(arrays: list[np.ndarray]) -> list[int]:
    """Counts the references to each array, those of this function included."""
    return [sys.getrefcount(array) for array in arrays]


_UNUSED = _num_references([np.empty(0)])[0]  # references of the list and of the counting


class BufferPool:
    """Buffers of up to `shape` cells, of which at most `keep` are pooled. For one thread."""

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], *, keep: int, pinned: bool
    ) -> None:
        self._shape = shape
        self._dtype = dtype
        self._keep = keep
        self.pinned = pinned
        self._arrays: list[np.ndarray] = []

    def take(self, length: int) -> Tensor:
        """Returns an uninitialised tensor [length, ...]; `length` is at most that of the shape."""
        if self.pinned:
            shape = (length, *self._shape[1:])
            dtype = torch.from_numpy(np.empty(0, self._dtype)).dtype
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        for number, references in enumerate(_num_references(self._arrays)):
            if references == _UNUSED:
                return torch.from_numpy(self._arrays[number][:length])
        array = np.empty(self._shape, self._dtype)
        if len(self._arrays) < self._keep:
            self._arrays.append(array)
        return torch.from_numpy(array[:length])
