"""One .npy file per slice, 1,000 to a folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

Batches = Iterator[tuple[torch.Tensor, np.ndarray]]
FOLDER_FILES = 1000


def write(cells: np.ndarray, target: Path) -> None:
    """A file per slice."""
    for number, slice_MT in enumerate(cells):
        file = target / _name(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, slice_MT)


def load_each(target: Path, about: dict[str, Any]) -> Callable[[np.ndarray, int], Batches]:
    """`np.load` of each slice, `np.stack` of a batch."""
    folder, batch_size = str(target), about["batch_size"]

    def epoch(wanted: np.ndarray, _: int) -> Batches:
        for start in range(0, len(wanted), batch_size):
            numbers = wanted[start : start + batch_size]
            batch = np.stack([np.load(f"{folder}/{_name(number)}") for number in numbers.tolist()])
            yield torch.from_numpy(batch), numbers

    return epoch


def _name(number: int) -> str:
    return f"{number // FOLDER_FILES:05d}/{number:08d}.npy"
