"""zarr-python: an array as in a melbank store, 1,024 chunks to a zarr shard, zstd and crc32c."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

Batches = Iterator[tuple[torch.Tensor, np.ndarray]]
Epoch = Callable[[list[np.ndarray], int], Batches]
SHARD_SLICES = 1024


def write(cells: np.ndarray, target: Path) -> None:
    """One array, zarr shard by zarr shard."""
    array = zarr.create_array(
        str(target),
        shape=cells.shape,
        shards=(SHARD_SLICES, *cells.shape[1:]),
        chunks=(1, *cells.shape[1:]),
        dtype=cells.dtype,
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
    )
    for start in range(0, len(cells), SHARD_SLICES):
        array[start : start + SHARD_SLICES] = cells[start : start + SHARD_SLICES]


def row_by_row(target: Path, _: dict[str, Any]) -> Epoch:
    """`array[row]` for each slice, `np.stack` of a batch; `oindex` takes longer."""
    array: Any = zarr.open_array(str(target), mode="r")

    def epoch(wanted: list[np.ndarray], _: int) -> Batches:
        for numbers in wanted:
            batch = np.stack([array[number] for number in numbers.tolist()])
            yield torch.from_numpy(batch), numbers

    return epoch


def oindex(target: Path, _: dict[str, Any]) -> Epoch:
    """`array.oindex` for random rows; where most are neighbours, a range for each run of them."""
    array: Any = zarr.open_array(str(target), mode="r")

    def epoch(wanted: list[np.ndarray], _: int) -> Batches:
        for numbers in wanted:
            runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
            if 2 * len(runs) > len(numbers):
                batch = array.oindex[numbers]
            else:
                batch = np.concatenate([array[int(run[0]) : int(run[-1]) + 1] for run in runs])
            yield torch.from_numpy(batch), numbers

    return epoch
