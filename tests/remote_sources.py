"""Slices in objects of a bucket, for tests of remote reading."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig
from storage.objects.client import RemoteConfig
from storage.objects.open import open_objects
from storage.read.cache_policy import ShardUse
from storage.read.extents import Extents
from tests.fakes import FakeSource

LENGTHS = [3, 1, 8, 2, 13, 1, 5, 4, 30, 2, 7, 6]
OBJECTS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemoteFake(FakeSource):
    """A fake source whose slices are in several objects of a bucket, below `url`."""

    urls: tuple[str, ...]
    per_object: int

    def read_with(self, **keys: Any) -> "RemoteFake":
        """The same with keys of the section `remote`."""
        return dataclasses.replace(self, remote=RemoteConfig(**keys))

    def shard_use(self, rows: np.ndarray) -> ShardUse:
        needed = len(rows) * self.recipe.slice_bytes
        return ShardUse(needed_bytes=needed, shard_bytes=self.cells.nbytes)

    def extents(self, rows: np.ndarray) -> Extents:
        found = super().extents(rows)
        number, place = np.divmod(found.offset, self.per_object)
        return dataclasses.replace(
            found,
            objects=self.urls,
            object_no=number.astype(np.int32),
            offset=place,
            codecs=found.codecs * len(self.urls),
            remote=True,
        )


def upload(source: FakeSource, url: str) -> RemoteFake:
    """Cuts the file of a source into objects of a bucket."""
    data = Path(source.url).read_bytes()
    per_object = -(-len(source.cells) // OBJECTS) * source.recipe.slice_bytes
    objects = open_objects(url)
    names = [f"{number}.raw" for number in range(OBJECTS)]
    for number, name in enumerate(names):
        objects.put(name, data[number * per_object : (number + 1) * per_object])
    urls = tuple(map(objects.describe, names))
    return RemoteFake(**{**vars(source), "url": url}, urls=urls, per_object=per_object)


def upload_folder(folder: Path, url: str) -> None:
    """Puts every file below a folder under a URL."""
    near, far = open_objects(str(folder)), open_objects(url)
    for name in near.walk():
        far.put(name, near.get(name))


def reader_of(source: Any, **config: Any) -> BatchReader:
    """Training batches of all slices, in an order that is always the same."""
    planner = EpochPlanner(source.recordings(), SamplingConfig(slice_choice="all"), seed=5)
    config = {"batch_size": 8, **config}
    return BatchReader(source, planner, LoaderConfig(**config), targets=None, train=True)


def check_equal(remote: Any, local: Any, epochs: int = 1) -> None:
    """The batches of both are the same, bit by bit."""
    there, here = reader_of(remote), reader_of(local)
    for epoch in range(epochs):
        there.set_epoch(epoch)
        here.set_epoch(epoch)
        count = 0
        for far, near in zip(there, here, strict=True):
            assert far.rows.tolist() == near.rows.tolist()
            assert np.array_equal(far.slices.numpy(), near.slices.numpy())
            count += 1
        assert count == len(here)
    assert there.bad == []
