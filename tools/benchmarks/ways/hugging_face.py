"""Hugging Face datasets: Arrow files, mapped into memory, a flat list of fixed length per slice.

That is the layout from which arrays come back quickest; `hugging_face_array` has its manual's.
The cells' own type has to be asked for, or integers come as int64, and it then is that of all
columns: so numbers are kept as 8 cells with a byte in each.
"""

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
SHUFFLE_SLICES = 1000
NUMBER_BYTES = 8


def write(cells: np.memmap[Any, Any], target: Path) -> None:
    """One dataset, saved to disk."""
    kind = hf.Value(str(cells.dtype))
    features = {
        "slice": hf.Sequence(kind, length=cells[0].size),
        "number": hf.Sequence(kind, length=NUMBER_BYTES),
    }
    hf.Dataset.from_generator(
        _samples,
        features=hf.Features(features),
        gen_kwargs={"file": str(cells.filename)},  # it hashes what it is given here
        cache_dir=str(target / "cache"),
        writer_batch_size=256,
    ).save_to_disk(str(target / "slices"))
    shutil.rmtree(target / "cache")


def numpy_map(target: Path, about: dict[str, Any]) -> Epoch:
    """Map-style, the rows of a batch at once, as numpy."""
    samples = _open(target).with_format("numpy", dtype=np.dtype(about["dtype"]))

    def epoch(wanted: list[np.ndarray], _: int) -> Batches:
        for numbers in wanted:
            batch = samples[numbers]
            slices = torch.from_numpy(batch["slice"].reshape(-1, *about["shape"]))
            yield slices, _numbers(batch["number"])

    return epoch


def torch_map(target: Path, about: dict[str, Any]) -> Epoch:
    """Map-style, the rows of a batch at once, as torch tensors."""
    samples = _open(target).with_format("torch", dtype=getattr(torch, about["dtype"]))

    def epoch(wanted: list[np.ndarray], _: int) -> Batches:
        for numbers in wanted:
            batch = samples[numbers]
            yield batch["slice"].view(-1, *about["shape"]), _numbers(batch["number"].numpy())

    return epoch


def arrow_map(target: Path, about: dict[str, Any]) -> Epoch:
    """Map-style, the rows of a batch as an Arrow table, taken to torch by hand."""
    samples = _open(target).with_format("arrow")

    def epoch(wanted: list[np.ndarray], _: int) -> Batches:
        for numbers in wanted:
            yield _from_arrow(samples[numbers], about)

    return epoch


def iterable(target: Path, about: dict[str, Any]) -> Epoch:
    """As an iterable with a shuffle buffer, a whole pass."""
    samples = _open(target).to_iterable_dataset(num_shards=16)
    samples = samples.shuffle(seed=0, buffer_size=SHUFFLE_SLICES).with_format("arrow")

    def epoch(_: list[np.ndarray], epoch_no: int) -> Batches:
        samples.set_epoch(epoch_no)
        for table in samples.iter(batch_size=about["batch_size"]):
            yield _from_arrow(table, about)

    return epoch


def _open(target: Path) -> Any:
    return hf.load_from_disk(str(target / "slices"))


def _samples(file: str) -> Iterator[dict[str, Any]]:
    for number, slice_MT in enumerate(np.load(file, mmap_mode="r")):
        digits = np.array([number], "<i8").view(np.uint8).astype(slice_MT.dtype)
        yield {"slice": np.array(slice_MT).reshape(-1), "number": digits}  # a memmap takes minutes


def _from_arrow(table: Any, about: dict[str, Any]) -> tuple[torch.Tensor, np.ndarray]:
    """A table of flat lists as a tensor, which has to be a copy: Arrow's memory is read-only."""
    cells, digits = (
        table[name].combine_chunks().flatten().to_numpy() for name in ("slice", "number")
    )
    slices = torch.from_numpy(cells.reshape(-1, *about["shape"]).copy())
    return slices, _numbers(digits.reshape(-1, NUMBER_BYTES))


def _numbers(digits: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(digits.astype(np.uint8)).view("<i8")[:, 0]
