"""LitData: chunks of 64 MB, not compressed."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import litdata
import numpy as np
import torch

Batches = Iterator[tuple[torch.Tensor, np.ndarray]]
Epoch = Callable[[list[np.ndarray], int], Batches]


def write(cells: np.memmap[Any, Any], target: Path) -> None:
    """A tensor and a number per sample, written by one worker."""
    litdata.optimize(
        fn=partial(_sample, str(cells.filename)),
        inputs=list(range(len(cells))),
        output_dir=str(target),
        chunk_bytes="64MB",
        num_workers=1,
        start_method="fork",
        verbose=False,
    )


def by_index(target: Path, about: dict[str, Any]) -> Epoch:
    """Random access to the samples of the plan, with a URL out of chunks that it fetches."""
    place: dict[str, Any] = {"input_dir": str(target)}
    if "url" in about:
        place = {"input_dir": about["url"], "cache_dir": str(target)}
        place["storage_options"] = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
    samples: Any = litdata.StreamingDataset(**place, shuffle=False)

    def epoch(wanted: list[np.ndarray], _: int) -> Batches:
        for numbers in wanted:
            found = [samples[number] for number in numbers.tolist()]
            slices = torch.stack([sample["slice"] for sample in found])
            yield slices, np.array([sample["number"] for sample in found])

    return epoch


def streamed(target: Path, about: dict[str, Any]) -> Epoch:
    """Its own shuffle and its own loader, a whole pass."""
    samples = litdata.StreamingDataset(str(target), shuffle=True, drop_last=False)
    loader = litdata.StreamingDataLoader(samples, batch_size=about["batch_size"], num_workers=0)

    def epoch(_: list[np.ndarray], __: int) -> Batches:
        for batch in loader:
            yield batch["slice"], batch["number"].numpy()

    return epoch


def _sample(file: str, number: int) -> dict[str, Any]:
    slice_MT = np.load(file, mmap_mode="r")[number]
    return {"slice": torch.from_numpy(slice_MT.copy()), "number": number}
