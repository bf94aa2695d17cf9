"""webdataset: tars of .npy members, read from beginning to end."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import torch
import webdataset as wds

Batches = Iterator[tuple[torch.Tensor, np.ndarray]]
Epoch = Callable[[list[np.ndarray], int], Batches]
SHARD_BYTES = 128_000_000
SHUFFLE_SLICES = 1000


def write(cells: np.ndarray, target: Path) -> None:
    """Tars of 128 MB; the key of a slice is its number."""
    target.mkdir()
    pattern = str(target / "shard-%06d.tar")
    with wds.ShardWriter(pattern, maxsize=SHARD_BYTES, maxcount=10**9, verbose=0) as tars:
        for number, slice_MT in enumerate(cells):
            tars.write({"__key__": f"{number:08d}", "npy": slice_MT})


def stock(target: Path, about: dict[str, Any]) -> Epoch:
    """The pipeline of the manual; where a slice per recording is wanted, the others are dropped."""
    tars = sorted(map(str, target.glob("*.tar")))

    def epoch(wanted: list[np.ndarray], epoch_no: int) -> Batches:
        samples = wds.WebDataset(tars, shardshuffle=len(tars), seed=epoch_no).decode()
        if about["task"] == "one":
            keys = _keys(wanted)
            samples = samples.select(lambda sample: sample["__key__"] in keys)
        return _batches(samples.shuffle(SHUFFLE_SLICES, seed=epoch_no), about["batch_size"])

    return epoch


def choose_first(target: Path, about: dict[str, Any]) -> Epoch:
    """The same, but members are dropped by their names, before they are read or decoded."""
    return _choose_from(sorted(map(str, target.glob("*.tar"))), about)


def piped(_: Path, about: dict[str, Any]) -> Epoch:
    """Tars of a bucket as its manual has it, through curl; members chosen before decoding."""
    return _choose_from([f"pipe:curl -s -f '{url}'" for url in about["urls"]], about)


def piped_and_kept(target: Path, about: dict[str, Any]) -> Epoch:
    """The same, the tars kept on disk by its own `cache_dir`."""
    urls = [f"pipe:curl -s -f '{url}'" for url in about["urls"]]
    return _choose_from(urls, about, cache_dir=str(target))


def opened(_: Path, about: dict[str, Any]) -> Epoch:
    """Tars of a bucket through fsspec, registered as the opener of s3:// URLs."""
    options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
    wds.gopen_schemes["s3"] = lambda url, mode, _: fsspec.open(url, mode, **options).open()
    return _choose_from([f"{about['url']}/{name}" for name in about["names"]], about)


def _choose_from(urls: list[str], about: dict[str, Any], **options: Any) -> Epoch:
    def epoch(wanted: list[np.ndarray], epoch_no: int) -> Batches:
        keys = _keys(wanted)
        samples = wds.WebDataset(
            urls,
            shardshuffle=len(urls),
            seed=epoch_no,
            select_files=lambda name: name.partition(".")[0] in keys,
            **options,
        )
        samples = samples.shuffle(SHUFFLE_SLICES, seed=epoch_no).decode()
        return _batches(samples, about["batch_size"])

    return epoch


def _keys(wanted: list[np.ndarray]) -> set[str]:
    return {f"{number:08d}" for number in np.concatenate(wanted).tolist()}


def _batches(samples: Any, batch_size: int) -> Batches:
    batched = samples.to_tuple("npy", "__key__").batched(batch_size)
    for slices, keys in wds.WebLoader(batched, batch_size=None, num_workers=0):
        yield slices, np.array([int(key) for key in keys])
