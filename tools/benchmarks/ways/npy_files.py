"""One .npy file per slice, 1,000 to a folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

Batches = Iterator[tuple[torch.Tensor, np.ndarray]]
Epoch = Callable[[list[np.ndarray], int], Batches]
FOLDER_FILES = 1000


def write(cells: np.ndarray, target: Path) -> None:
    """A file per slice."""
    for number, slice_MT in enumerate(cells):
        file = target / _name(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, slice_MT)


def load_each(target: Path, _: dict[str, Any]) -> Epoch:
    """`np.load` of each slice, `np.stack` of a batch."""
    folder = str(target)

    def epoch(wanted: list[np.ndarray], _: int) -> Batches:
        for numbers in wanted:
            batch = np.stack([np.load(f"{folder}/{_name(number)}") for number in numbers.tolist()])
            yield torch.from_numpy(batch), numbers

    return epoch


def _name(number: int) -> str:
    return f"{number // FOLDER_FILES:05d}/{number:08d}.npy"
