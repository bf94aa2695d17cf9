"""A set of tar shards, opened: the same questions as to a store, answered from the side index.

shards = open_shards("data/shards")
shards.extents(rows)  # each slice's place in its tar, behind the .npy header
"""

import io

import numpy as np
import polars as pl

from datasets.shard_format import INDEX, RECORDINGS, FileEntry, ShardManifest
from storage.errors import DamageError, StoreError
from storage.extents import RAW, Extents
from storage.objects import LocalObjects, digest, open_objects
from storage.recipe import Recipe

_PLACE = ("shard", "offset", "length")


class ShardSet:
    """An open shard set; a `SliceSource`. Immutable, safe to use from threads."""

    def __init__(self, url: str) -> None:
        objects = open_objects(url)
        manifest = ShardManifest.read(objects)
        for name, entry in manifest.shards.items():
            _check_size(objects, name, entry)
        self.url = url
        self.recipe: Recipe = manifest.recipe
        self.store_id: str = manifest.store_id
        self._recordings = _read_table(objects, RECORDINGS, manifest.files[RECORDINGS])
        index = _read_table(objects, INDEX, manifest.files[INDEX]).sort("row")
        if (index["length"] != self.recipe.slice_bytes).any():
            raise StoreError(
                f"{objects.path(INDEX)} has slices that are not {self.recipe.slice_bytes} bytes "
                "long, as the recipe in shards.json has it"
            )
        names = list(manifest.shards)
        self._objects = tuple(str(objects.path(name)) for name in names)
        numbers = {name: number for number, name in enumerate(names)}
        self._object_no = index["shard"].replace_strict(numbers, return_dtype=pl.Int32).to_numpy()
        self._offset = index["offset"].to_numpy()
        self._index = index.drop(_PLACE)
        self._rows = self._index["row"].to_numpy()
        self._crc32c = self._index["crc32c"].to_numpy()

    def recordings(self) -> pl.DataFrame:
        """One line per recording, sorted by `first_row`, as the store had it."""
        return self._recordings

    def slice_index(self) -> pl.DataFrame:
        """One line per slice, sorted by row, as the store had it."""
        return self._index

    def extents(self, rows: np.ndarray) -> Extents:
        """Where the slices of int64 rows [n] lie, in that order; StoreError on an unknown row."""
        places = np.searchsorted(self._rows, rows)
        found = places < len(self._rows)
        found[found] = self._rows[places[found]] == rows[found]
        if not found.all():
            raise StoreError(
                f"row {rows[~found][0]} is not in {self.url}, which has {len(self._rows):,} slices"
            )
        return Extents(
            objects=self._objects,
            object_no=self._object_no[places],
            offset=self._offset[places],
            length=np.full(len(rows), self.recipe.slice_bytes, np.int64),
            crc32c=self._crc32c[places],
            codec=RAW,
        )


def open_shards(url: str) -> ShardSet:
    """Opens a shard set.

    Raises StoreError where there is none, and DamageError, naming the file, where one is missing,
    or not as long as it was written.
    """
    return ShardSet(url)


def _check_size(objects: LocalObjects, name: str, entry: FileEntry) -> None:
    path = objects.path(name)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DamageError(
            f"{path} is missing or unreadable ({error.strerror}): run tools.write_shards again"
        ) from error
    if size != entry.size_bytes:
        raise DamageError(
            f"{path} has {size:,} bytes where shards.json has {entry.size_bytes:,}: it is stale "
            "or truncated; run tools.write_shards again"
        )


def _read_table(objects: LocalObjects, name: str, entry: FileEntry) -> pl.DataFrame:
    _check_size(objects, name, entry)
    data = objects.get(name)
    if digest(data) != entry.sha256:
        raise DamageError(
            f"{objects.path(name)} differs from its checksum in shards.json: it is stale or "
            "damaged; run tools.write_shards again"
        )
    return pl.read_parquet(io.BytesIO(data))
