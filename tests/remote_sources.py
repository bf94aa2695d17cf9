"""Slices in objects of a bucket, for tests of remote reading."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import obstore

from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig
from storage.objects.client import DEFAULT, RemoteConfig, open_remote
from storage.read.cache_policy import ShardUse
from storage.read.extents import Extents
from tests.fakes import FakeSource

LENGTHS = [3, 1, 8, 2, 13, 1, 5, 4, 30, 2, 7, 6]
OBJECTS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemoteFake:
    """A fake source whose slices are in several objects of a bucket."""

    local: FakeSource
    urls: tuple[str, ...]
    per_object: int
    remote: RemoteConfig = DEFAULT

    def read_with(self, **keys: Any) -> "RemoteFake":
        """The same with keys of the section `remote`."""
        return dataclasses.replace(self, remote=RemoteConfig(**keys))

    @property
    def url(self) -> str:
        return self.urls[0].rpartition("/")[0]

    @property
    def recipe(self) -> Any:
        return self.local.recipe

    @property
    def store_id(self) -> str:
        return self.local.store_id

    def recordings(self) -> Any:
        return self.local.recordings()

    def slice_index(self) -> Any:
        return self.local.slice_index()

    def shard_use(self, rows: np.ndarray) -> ShardUse:
        return ShardUse(
            needed_bytes=len(rows) * self.recipe.slice_bytes, shard_bytes=self.local.cells.nbytes
        )

    def extents(self, rows: np.ndarray) -> Extents:
        found = self.local.extents(rows)
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
    num_slices = len(source.cells)
    per_object = -(-num_slices // OBJECTS) * source.recipe.slice_bytes
    remote = open_remote(url)
    for number in range(OBJECTS):
        piece = data[number * per_object : (number + 1) * per_object]
        obstore.put(remote.store, remote.key(f"{number}.raw"), piece)
    urls = tuple(remote.describe(f"{number}.raw") for number in range(OBJECTS))
    return RemoteFake(local=source, urls=urls, per_object=per_object)


def upload_folder(folder: Path, url: str) -> None:
    """Puts every file below a folder under a URL."""
    remote = open_remote(url)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != ".lock":
            key = remote.key(path.relative_to(folder).as_posix())
            obstore.put(remote.store, key, path.read_bytes())


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
