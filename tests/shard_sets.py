"""Small sources that change, and shard sets as plain values, for tests of shards."""

import gc
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import webdataset

from datasets.shards.shard_set import ShardSet
from datasets.shards.writer import ShardConfig
from storage.objects.client import DEFAULT, RemoteConfig
from storage.read.cache_policy import ShardUse
from storage.read.extents import ExtentReader, Extents
from storage.recipe import Recipe
from tests.fakes import FakeSource

LENGTHS = [3, 1, 8, 2, 13, 1, 5, 4, 30, 2, 7, 6]
SMALL_SHARDS = ShardConfig(shard_size_bytes=40_000, workers=1)


@dataclass(frozen=True, kw_only=True)
class PartSource:
    """Some recordings of a source, as a store that has not grown yet, or has lost some."""

    whole: FakeSource
    table: pl.DataFrame
    index: pl.DataFrame
    remote: RemoteConfig = DEFAULT

    @property
    def url(self) -> str:
        return self.whole.url

    @property
    def recipe(self) -> Recipe:
        return self.whole.recipe

    @property
    def store_id(self) -> str:
        return self.whole.store_id

    def recordings(self) -> pl.DataFrame:
        return self.table

    def slice_index(self, columns=None) -> pl.DataFrame:
        return self.index

    def extents(self, rows: np.ndarray) -> Extents:
        return self.whole.extents(rows)

    def shard_use(self, rows: np.ndarray) -> ShardUse:
        return ShardUse()


def part_of(source: FakeSource, numbers: list[int] | range) -> PartSource:
    """The recordings of these numbers."""
    table = source.table[list(numbers)]
    index = source.index.join(table, on="recording_id", how="semi", maintain_order="left")
    return PartSource(whole=source, table=table, index=index)


def contents(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of every file that is not a lock."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if path.name != ".lock"
    }


def identities(folder: Path, pattern: str = "*.tar") -> dict[str, tuple[int, int]]:
    """Name -> inode and mtime: what changes where a file is written again."""
    found = {}
    for path in sorted(folder.glob(pattern)):
        if path.name != ".lock":
            with suppress(FileNotFoundError):  # deleted meanwhile, by a run that is under way
                found[path.name] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


def flip(path: Path, place: int, bit: int = 0) -> None:
    """Changes one bit of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def read_stock(folder: Path) -> list[dict[str, Any]]:
    """Every sample that stock webdataset finds in all the tars."""
    urls = sorted(str(path) for path in folder.glob("*.tar"))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    gc.collect()  # it leaves its files open
    return samples


def read_all(shards: ShardSet) -> np.ndarray:
    """The cells of every slice, in the order of the rows."""
    rows = shards.slice_index()["row"].to_numpy()
    out = np.empty((len(rows), *shards.recipe.slice_shape), shards.recipe.dtype)
    with ExtentReader() as reader:
        reader.read(shards.extents(rows), out)
    return out


def check_holds(shards: ShardSet, source: FakeSource | PartSource) -> None:
    """The set answers every question as the source does."""
    whole = source.whole if isinstance(source, PartSource) else source
    assert shards.recordings().equals(source.recordings())
    assert shards.slice_index().equals(source.slice_index())
    assert np.array_equal(read_all(shards), whole.read(source.slice_index()["row"].to_numpy()))
