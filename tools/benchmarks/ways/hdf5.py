"""HDF5 by h5py: one dataset, a chunk per slice, not compressed unless a codec is given."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

Batches = Iterator[tuple[torch.Tensor, np.ndarray]]
Epoch = Callable[[list[np.ndarray], int], Batches]


def write(cells: np.ndarray, target: Path, codec: str | None = None) -> None:
    """One file."""
    target.mkdir()
    layout: dict[str, Any] = {"chunks": (1, *cells.shape[1:]), "compression": codec}
    with h5py.File(target / "slices.h5", "w") as file:
        data = file.create_dataset("slices", cells.shape, cells.dtype, **layout)
        for number, slice_MT in enumerate(cells):
            data[number] = slice_MT


def row_by_row(target: Path, _: dict[str, Any]) -> Epoch:
    """Slice by slice; `read_direct` and a list of rows at once take longer."""
    data: Any = h5py.File(target / "slices.h5", "r")["slices"]

    def epoch(wanted: list[np.ndarray], _: int) -> Batches:
        for numbers in wanted:
            batch = np.empty((len(numbers), *data.shape[1:]), data.dtype)
            for place, number in enumerate(numbers.tolist()):
                batch[place] = data[number]
            yield torch.from_numpy(batch), numbers

    return epoch


def selection(target: Path, _: dict[str, Any]) -> Epoch:
    """Neighbours as one range; others as a list of rows, which h5py wants increasing and unique."""
    data: Any = h5py.File(target / "slices.h5", "r")["slices"]

    def epoch(wanted: list[np.ndarray], _: int) -> Batches:
        for numbers in wanted:
            if np.all(np.diff(numbers) == 1):
                batch = data[numbers[0] : numbers[-1] + 1]
            else:
                increasing, back = np.unique(numbers, return_inverse=True)
                batch = data[increasing][back]
            yield torch.from_numpy(batch), numbers

    return epoch
