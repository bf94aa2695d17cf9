"""Hugging Face datasets: Arrow files, mapped into memory.

A flat list of fixed length per slice is the layout from which arrays come back quickest; the manual
has the feature Array2D for them. As numpy and as torch the cells' own type has to be asked for, or
integers come as int64; it then is that of all columns, so there the numbers of the slices are not
read.
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


def write(cells: np.memmap[Any, Any], target: Path) -> None:
    """Saves slices as flat lists."""
    kind = hf.Sequence(hf.Value(str(cells.dtype)), length=cells[0].size)
    _write(cells, target, kind, (-1,))


def write_array(cells: np.memmap[Any, Any], target: Path) -> None:
    """Saves slices as the manual does."""
    shape = cells.shape[1:]
    _write(cells, target, hf.Array2D(shape=shape, dtype=str(cells.dtype)), shape)


def _write(cells: np.memmap[Any, Any], target: Path, kind: Any, shape: tuple[int, ...]) -> None:
    """Saves one dataset to disk."""
    hf.Dataset.from_generator(
        _samples,
        features=hf.Features({"slice": kind, "number": hf.Value("int64")}),
        # it hashes what it is given here
        gen_kwargs={"file": str(cells.filename), "shape": shape},
        cache_dir=str(target / "cache"),
        writer_batch_size=256,
    ).save_to_disk(str(target / "slices"))
    shutil.rmtree(target / "cache")


def numpy_map(target: Path, about: dict[str, Any]) -> Epoch:
    """Map-style, the rows of a batch at once, as numpy."""
    dtype = np.dtype(about["dtype"])
    samples = _open(target).with_format("numpy", columns=["slice"], dtype=dtype)

    def epoch(wanted: list[np.ndarray], _: int) -> Batches:
        for numbers in wanted:
            cells = samples[numbers]["slice"]
            yield torch.from_numpy(cells.reshape(-1, *about["shape"])), numbers

    return epoch


def torch_map(target: Path, about: dict[str, Any]) -> Epoch:
    """Map-style, the rows of a batch at once, as torch tensors."""
    dtype = getattr(torch, about["dtype"])
    samples = _open(target).with_format("torch", columns=["slice"], dtype=dtype)

    def epoch(wanted: list[np.ndarray], _: int) -> Batches:
        for numbers in wanted:
            yield samples[numbers]["slice"].view(-1, *about["shape"]), numbers

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


def _samples(file: str, shape: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    for number, slice_MT in enumerate(np.load(file, mmap_mode="r")):
        yield {
            "slice": np.array(slice_MT).reshape(shape),
            "number": number,
        }  # not as a memmap: slow


def _from_arrow(table: Any, about: dict[str, Any]) -> tuple[torch.Tensor, np.ndarray]:
    """A table of flat lists as a tensor, which has to be a copy: Arrow's memory is read-only."""
    cells = table["slice"].combine_chunks().flatten().to_numpy()
    slices = torch.from_numpy(cells.reshape(-1, *about["shape"]).copy())
    return slices, table["number"].to_numpy()
