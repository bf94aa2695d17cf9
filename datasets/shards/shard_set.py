"""Opens a set of tar shards as a slice source, from its side index.

shards = open_shards("data/shards")
shards.extents(rows)  # of cells in the tars, after their .npy headers
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import polars as pl

from datasets.shards.format import (
    INDEX,
    INDEX_RULE,
    LABEL_HASH,
    LISTING,
    RECORDINGS,
    RECORDINGS_RULE,
    FileEntry,
    ShardManifest,
)
from datasets.shards.mapped_tables import OBJECT_NO, SetTables, open_tables
from storage.checksums import digest, digest_file
from storage.errors import DamageError, RemoteError, StoreError
from storage.format.classes import read_classes
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.open import open_objects
from storage.objects.protocol import Objects
from storage.objects.urls import is_remote
from storage.read.cache_policy import ShardUse
from storage.read.extents import RAW, Extents, find_rows
from storage.recipe import Recipe
from storage.untrusted import decode_parquet, decode_parquets

_WAY_OUT = "run tools.write_shards again, or tools.index_shards if the tars are not of melbank"

_RULES = {INDEX: INDEX_RULE, RECORDINGS: RECORDINGS_RULE}


class ShardSet:
    """Shard set; a `SliceSource`. Immutable, safe to use from threads."""

    def __init__(self, url: str, remote: RemoteConfig = DEFAULT) -> None:
        objects = open_objects(url, LISTING, remote=remote)
        self.remote = remote
        manifest = ShardManifest.read(objects)
        sizes = objects.sizes(manifest.shards)
        for name, entry in manifest.shards.items():
            if sizes.get(name) != entry.size_bytes:
                check_file(objects, name, entry)
        self.url = url
        self.recipe: Recipe = manifest.recipe
        self.store_id: str = manifest.store_id
        tables = open_tables(
            manifest,
            remote.tables_folder,
            url,
            read=lambda: _read_checked(objects, manifest),
            check=lambda: _check_unchanged(objects, manifest),
        )
        self._recordings = tables.recordings
        self._object_no = tables.slices[OBJECT_NO].to_numpy()
        self._offset = tables.slices["offset"].to_numpy()
        self._size_bytes = np.array([entry.size_bytes for entry in manifest.shards.values()])
        self._objects = tuple(objects.describe(name) for name in manifest.shards)
        self._index = tables.slices.drop("offset", OBJECT_NO)
        self._rows = self._index["row"].to_numpy()
        self._crc32c = self._index["crc32c"].to_numpy()

    def __repr__(self) -> str:
        """Place, and number and shape of its slices."""
        shape = " x ".join(map(str, self.recipe.slice_shape))
        return (
            f"ShardSet({self.url}: {len(self._rows):,} slices of {len(self._recordings):,} "
            f"recordings in {len(self._objects):,} shards, {shape} {self.recipe.encoding})"
        )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Returns the classes of taxonomy.csv, where some have no recording; else none."""
        return read_classes(open_objects(self.url, remote=self.remote))

    def recordings(self) -> pl.DataFrame:
        """Returns one line per recording, sorted by `first_row`, as in the store."""
        return self._recordings

    def slice_index(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Returns one line per slice, sorted by row, as in the store."""
        return self._index

    def extents(self, rows: np.ndarray) -> Extents:
        """Returns the extents of int64 rows [n], in that order; StoreError on an unknown row."""
        index = find_rows(self._rows, rows, self.url)
        return Extents(
            objects=self._objects,
            object_no=self._object_no[index],
            offset=self._offset[index],
            length=np.full(len(rows), self.recipe.slice_bytes, np.int64),
            crc32c=self._crc32c[index],
            codecs=(RAW,) * len(self._objects),
            remote=is_remote(self.url),
        )

    def shard_use(self, rows: np.ndarray) -> ShardUse:
        """Counts bytes of the slices of int64 rows [n], and of their tars in an object store."""
        if not is_remote(self.url):
            return ShardUse()
        used = np.unique(self._object_no[find_rows(self._rows, rows, self.url)])
        return ShardUse(
            needed_bytes=len(rows) * self.recipe.slice_bytes,
            shard_bytes=int(self._size_bytes[used].sum()),
        )


def open_shards(url: str, remote: RemoteConfig = DEFAULT) -> ShardSet:
    """Opens a shard set.

    Raises StoreError where there is none, and DamageError, naming the file, where one is missing
    or has another size than in `shards.json`.
    """
    return ShardSet(url, remote)


def check_file(objects: Objects, name: str, entry: FileEntry) -> None:
    """Raises DamageError, naming the file, unless it can be read and has its size."""
    try:
        size = objects.size(name)
    except RemoteError:
        raise
    except StoreError as error:
        raise DamageError(f"{error}; then {_WAY_OUT}") from error
    if size != entry.size_bytes:
        raise DamageError(
            f"{objects.describe(name)} has {size:,} bytes where shards.json has "
            f"{entry.size_bytes:,}: it is stale or truncated; {_WAY_OUT}"
        )


def shard_numbers(manifest: ShardManifest, index: pl.DataFrame) -> np.ndarray:
    """Returns the place in the manifest of each line's shard, int32 [n]; -1 where it has none."""
    numbers = {name: number for number, name in enumerate(manifest.shards)}
    found = index["shard"].replace_strict(numbers, default=-1, return_dtype=pl.Int32)
    return found.to_numpy()


def index_problems(
    objects: Objects, manifest: ShardManifest, index: pl.DataFrame, shard_nos: np.ndarray
) -> Iterator[str]:
    """Yields inconsistencies of a side index, with its `shard_numbers`, with the manifest."""
    path = objects.describe(INDEX)
    rows = np.sort(index["row"].to_numpy())
    if (rows[1:] == rows[:-1]).any():
        yield f"{path} has rows twice: run tools.index_shards"
    if (index["length"] != manifest.recipe.slice_bytes).any():
        yield f"{path} has slices of another length than the recipe's: run tools.index_shards"
    if (shard_nos < 0).any():
        unknown = sorted(set(index["shard"].unique()) - manifest.shards.keys())
        yield f"{path} names {unknown[0]!r}, which shards.json does not: run tools.index_shards"
        return
    sizes = np.array([entry.size_bytes for entry in manifest.shards.values()], np.int64)
    if (index["offset"].to_numpy() > sizes[shard_nos] - index["length"].to_numpy()).any():
        yield f"{path} has slices beyond the end of their tar: run tools.index_shards"


def _read_checked(objects: Objects, manifest: ShardManifest) -> SetTables:
    """Reads recordings and side index; DamageError where they do not go with each other."""
    recordings, index = _read_tables(objects, manifest)
    index = index.sort("row")
    object_no = shard_numbers(manifest, index)
    for problem in index_problems(objects, manifest, index, object_no):
        raise DamageError(problem)
    first, count = (recordings[name].to_numpy() for name in ("first_row", "num_slices"))
    begins, ends = np.searchsorted(index["row"].to_numpy(), [first, first + count])
    if not np.array_equal(ends - begins, count) or count.sum() != len(index):
        raise DamageError(f"{objects.describe(INDEX)} has too few rows: {_WAY_OUT}")
    slices = index.drop("shard", "length", LABEL_HASH).hstack([pl.Series(OBJECT_NO, object_no)])
    return SetTables(recordings=recordings, slices=slices)


def _read_tables(objects: Objects, manifest: ShardManifest) -> list[pl.DataFrame]:
    """Returns recordings and side index, in one pass; DamageError where one is not as written."""
    found = {name: _read_file(objects, name, manifest.files[name]) for name in (RECORDINGS, INDEX)}
    decoded = decode_parquets([(_RULES[name], [data]) for name, data in found.items()])
    return [
        decode_set_table(objects, name, data) if table is None else table[0]
        for (name, data), table in zip(found.items(), decoded, strict=True)
    ]


def _read_file(objects: Objects, name: str, entry: FileEntry) -> bytes:
    check_file(objects, name, entry)
    data = objects.get(name)
    if digest(data) != entry.sha256:
        raise _changed(objects, name)
    return data


def _check_unchanged(objects: Objects, manifest: ShardManifest) -> None:
    """Raises DamageError where the tables of a set are not as written."""
    for name in (RECORDINGS, INDEX):
        entry = manifest.files[name]
        check_file(objects, name, entry)
        with objects.as_file(name) as path:
            if digest_file(path) != entry.sha256:
                raise _changed(objects, name)


def _changed(objects: Objects, name: str) -> DamageError:
    return DamageError(
        f"{objects.describe(name)} differs from its checksum in shards.json: it is stale or "
        f"damaged; {_WAY_OUT}"
    )


def decode_set_table(
    objects: Objects, name: str, data: bytes, columns: list[str] | None = None
) -> pl.DataFrame:
    """Decodes a table of a set, or some columns; DamageError where it breaks its rule."""
    return decode_parquet(data, objects.describe(name), _RULES[name], _WAY_OUT, columns)
