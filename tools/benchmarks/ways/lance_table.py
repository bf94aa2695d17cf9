"""Lance: a table with a list of fixed length per slice."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import torch

Batches = Iterator[tuple[torch.Tensor, np.ndarray]]
Epoch = Callable[[list[np.ndarray], int], Batches]
WRITE_SLICES = 256


def write(cells: np.ndarray, target: Path) -> None:
    """One dataset, in its own default layout."""
    kind = pa.list_(pa.from_numpy_dtype(cells.dtype), cells[0].size)
    schema = pa.schema({"slice": kind, "number": pa.int64()})

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(cells), WRITE_SLICES):
            block = cells[start : start + WRITE_SLICES]
            slices = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), type=kind)
            numbers = pa.array(np.arange(start, start + len(block)))
            yield pa.RecordBatch.from_arrays([slices, numbers], schema=schema)

    lance.write_dataset(
        pa.RecordBatchReader.from_batches(schema, batches()), str(target), schema=schema
    )


def take(target: Path, about: dict[str, Any]) -> Epoch:
    """`take` of the rows of a batch."""
    table = lance.dataset(str(target))

    def epoch(wanted: list[np.ndarray], _: int) -> Batches:
        for numbers in wanted:
            batch = table.take(numbers, columns=["slice", "number"])
            cells = batch["slice"].combine_chunks().flatten().to_numpy()
            slices = torch.from_numpy(
                cells.reshape(-1, *about["shape"]).copy()
            )  # Arrow's is read-only
            yield slices, batch["number"].to_numpy()

    return epoch
