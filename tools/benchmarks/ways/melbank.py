"""melbank: its reader on tars and on a store, as a training loop gets it.

The reader draws the plan of each epoch itself, in the time that is measured; all others are given
theirs.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.loading.config import LoaderConfig
from datasets.loading.reader import BatchReader
from datasets.shards.shard_set import open_shards
from datasets.slice_source import SliceSource
from storage.objects.client import RemoteConfig
from storage.store import open_store
from tools.benchmarks.reading.plans import planner_of

Batches = Iterator[tuple[torch.Tensor, np.ndarray]]
Epoch = Callable[[list[np.ndarray], int], Batches]


def tars(target: Path, about: dict[str, Any], *, check: bool = True, mode: str = "ranged") -> Epoch:
    """Tar shards on this disk or at a URL, every checksum verified."""
    config = RemoteConfig(mode=mode, cache_dir=str(target))
    return _reader(open_shards(about.get("url", str(target)), config), about, check=check)


def store(target: Path, about: dict[str, Any], *, check: bool = True) -> Epoch:
    """The Zarr store, on this disk or at a URL, every checksum verified."""
    source = open_store(about.get("url", str(target)), RemoteConfig(mode="ranged"))
    return _reader(source, about, check=check)


tars_unchecked = partial(tars, check=False)
tars_cached = partial(tars, mode="cached")  # whole shards, by way of the cache
store_unchecked = partial(store, check=False)


def store_rows(target: Path, _: dict[str, Any]) -> Epoch:
    """Rows of the Zarr store by `Store.read`, every checksum verified; no training around it."""
    source = open_store(str(target))

    def epoch(wanted: list[np.ndarray], _: int) -> Batches:
        for numbers in wanted:
            yield torch.from_numpy(source.read(numbers)), numbers

    return epoch


def _reader(source: SliceSource, about: dict[str, Any], *, check: bool) -> Epoch:
    reader = BatchReader(
        source,
        planner_of(source.recordings(), about),
        LoaderConfig(batch_size=about["batch_size"], check=check),
        targets=None,
        train=True,
    )

    def epoch(_: list[np.ndarray], epoch_no: int) -> Batches:
        reader.set_epoch(epoch_no)
        for batch in reader:
            yield batch.slices, batch.rows.numpy()

    return epoch
