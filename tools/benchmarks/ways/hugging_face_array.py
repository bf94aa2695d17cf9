"""Hugging Face datasets as its manual has it for arrays: Arrow files with the feature Array2D."""

import importlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

hf = importlib.import_module("datasets")  # in this checkout that name is melbank's own layer

Batches = Iterator[tuple[torch.Tensor, np.ndarray]]
Epoch = Callable[[list[np.ndarray], int], Batches]


def write(cells: np.memmap[Any, Any], target: Path) -> None:
    """One dataset, saved to disk."""
    feature = hf.Array2D(shape=cells.shape[1:], dtype=str(cells.dtype))
    hf.Dataset.from_generator(
        _samples,
        features=hf.Features({"slice": feature}),
        gen_kwargs={"file": str(cells.filename)},  # it hashes what it is given here
        cache_dir=str(target / "cache"),
        writer_batch_size=256,
    ).save_to_disk(str(target / "slices"))
    shutil.rmtree(target / "cache")


def numpy_map(target: Path, about: dict[str, Any]) -> Epoch:
    """Map-style, the rows of a batch at once, as numpy."""
    samples = hf.load_from_disk(str(target / "slices"))
    samples = samples.with_format("numpy", dtype=np.dtype(about["dtype"]))

    def epoch(wanted: list[np.ndarray], _: int) -> Batches:
        for numbers in wanted:
            yield torch.from_numpy(samples[numbers]["slice"]), numbers

    return epoch


def _samples(file: str) -> Iterator[dict[str, Any]]:
    for slice_MT in np.load(file, mmap_mode="r"):
        yield {"slice": np.array(slice_MT)}  # a memmap takes minutes
