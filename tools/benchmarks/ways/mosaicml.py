"""MosaicML Streaming: MDS shards of 64 MiB, not compressed, no hashes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from streaming import MDSWriter, StreamingDataLoader, StreamingDataset

Batches = Iterator[tuple[torch.Tensor, np.ndarray]]
Epoch = Callable[[list[np.ndarray], int], Batches]


def write(cells: np.ndarray, target: Path) -> None:
    """An array and a number per sample."""
    shape = ",".join(map(str, cells.shape[1:]))
    columns = {"slice": f"ndarray:{cells.dtype}:{shape}", "number": "int64"}
    with MDSWriter(out=str(target), columns=columns) as shards:
        for number, slice_MT in enumerate(cells):
            shards.write({"slice": np.ascontiguousarray(slice_MT), "number": np.int64(number)})


def by_index(target: Path, about: dict[str, Any]) -> Epoch:
    """Random access to the samples of the plan, with a URL out of shards that it fetches."""
    samples: Any = StreamingDataset(
        remote=about.get("url"), local=str(target), batch_size=about["batch_size"], shuffle=False
    )

    def epoch(wanted: list[np.ndarray], _: int) -> Batches:
        for numbers in wanted:
            found = [samples[number] for number in numbers.tolist()]
            slices = torch.from_numpy(np.stack([sample["slice"] for sample in found]))
            yield slices, np.array([sample["number"] for sample in found])

    return epoch


def streamed(target: Path, about: dict[str, Any]) -> Epoch:
    """Its own shuffle and its own loader, a whole pass."""
    batch_size = about["batch_size"]
    samples = StreamingDataset(
        local=str(target), batch_size=batch_size, shuffle=True, num_canonical_nodes=1
    )
    loader = StreamingDataLoader(samples, batch_size=batch_size, num_workers=0)

    def epoch(_: list[np.ndarray], __: int) -> Batches:
        for batch in loader:
            yield batch["slice"], batch["number"].numpy()

    return epoch
