"""Reading a store: its tables as Polars frames, its slices as arrays.

store = open_store("data/store")
loud = store.query("SELECT * FROM slices WHERE max_db > -10").collect()
cells = store.slices(loud)          # uint8 [n, 128, 313]
cells = store.read([5, 3, 5])       # by row, in that order
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl

from storage.errors import ConfigError, DamageError, RemoteError, StoreError
from storage.format.catalog import LISTING, ListedTables
from storage.format.classes import read_classes
from storage.format.manifest import Manifest
from storage.format.state import read_parts
from storage.format.tables import (
    DUPLICATE,
    INDEX,
    PART,
    RECORDING_NO,
    REJECTS,
    read_tables,
    table_numbers,
)
from storage.format.zarr_shards import (
    INDEX_BYTES,
    SLICES_PER_ZARR_SHARD,
    chunk_edges,
    decode_index,
    shard_name,
)
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.open import open_objects
from storage.objects.protocol import Objects
from storage.objects.retry import POLICY
from storage.objects.urls import is_remote
from storage.read.cache_policy import ShardUse
from storage.read.extents import Extents, find_rows, unknown_row
from storage.read.pictures.html import STRIP, store_html
from storage.read.shared.slice_numbers import SliceNumbers
from storage.read.shared.store_tables import SharedTables
from storage.read.slice_reader import SliceReader
from storage.read.slice_table import late_join
from storage.read.sql import select
from storage.recipe import Recipe

_INDEXES_AT_ONCE = 32  # of zarr shards in an object store


@dataclass(slots=True)
class ShardIndexes:
    """Positions of slices in their zarr shards; read at first use, then kept: 4 kB each."""

    objects: Objects
    slice_bytes: int
    known: dict[int, np.ndarray] = field(default_factory=dict)

    def edges(self, shard_nos: Sequence[int]) -> np.ndarray:
        """Offsets of the chunks of n zarr shards, and the end of the last one, bytes, [n, 1025]."""
        unknown = [shard_no for shard_no in shard_nos if shard_no not in self.known]
        if len(unknown) > 1 and is_remote(self.objects.url):
            with ThreadPoolExecutor(min(_INDEXES_AT_ONCE, len(unknown))) as threads:
                found = list(threads.map(self._read, unknown))
        else:
            found = [self._read(shard_no) for shard_no in unknown]
        self.known.update(zip(unknown, found, strict=True))
        edges = [self.known[shard_no] for shard_no in shard_nos]
        return np.array(edges).reshape(-1, SLICES_PER_ZARR_SHARD + 1)

    def _read(self, shard_no: int) -> np.ndarray:
        """Reads one index; again where it has changed, perhaps only on its way."""
        for _ in range(POLICY.reads - 1):
            with suppress(DamageError):
                return self._read_once(shard_no)
        return self._read_once(shard_no)

    def _read_once(self, shard_no: int) -> np.ndarray:
        name = shard_name(shard_no)
        url = self.objects.describe(name)
        try:
            tail = self.objects.tail(name, INDEX_BYTES)
        except RemoteError:
            raise
        except StoreError as error:
            raise StoreError(f"{error}: run tools.verify --repair") from error
        return chunk_edges(decode_index(tail, url), url, self.slice_bytes)


class Store(AbstractContextManager["Store"]):
    """An open store. Reads what was committed when it was opened; safe to read from threads."""

    def __init__(self, url: str, remote: RemoteConfig = DEFAULT) -> None:
        self.objects = open_objects(url, LISTING, remote=remote)
        self.remote = remote
        self.url = url
        manifest = Manifest.read(self.objects)
        self.recipe: Recipe = manifest.recipe
        self.store_id: str = manifest.store_id
        self.codec: str = manifest.codec
        self._tables = ListedTables(self.objects)
        self._parts = table_numbers(self.objects, INDEX)
        self._shared = SharedTables(self._tables, self._parts, remote.tables_folder)
        self._mapped = self._shared.recordings()
        self._live: pl.DataFrame | None = None
        if self._mapped is None:
            self._live, self._rejects = self._read_live()
        else:
            read = self._tables.get_many
            self._rejects = read_tables(self.objects, REJECTS, self._parts, read)
        self._tables.check_parts(self._parts)
        self._shards = ShardIndexes(self.objects, self.recipe.slice_bytes)
        self._reader = SliceReader(remote)

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        """Place, and number and shape of its slices."""
        shape = " x ".join(map(str, self.recipe.slice_shape))
        return (
            f"Store({self.url}: {len(self):,} slices of {len(self._recordings):,} recordings, "
            f"{shape} {self.recipe.encoding})"
        )

    def _repr_html_(self) -> str:
        """Counts, recipe, and spectrograms of a few recordings, for a notebook."""
        step = max(1, len(self._recordings) // STRIP)
        chosen = self._recordings.gather_every(step).head(STRIP)
        cells = self.read(chosen["first_row"].to_numpy())
        titles = chosen["recording_id"].to_list()
        shown = list(zip(titles, cells, strict=True))
        return store_html(self.url, self._recordings, self.recipe, shown)

    def __len__(self) -> int:
        """Number of slices."""
        return int(self._recordings["num_slices"].sum())

    def __getitem__(self, place: int | slice) -> np.ndarray:
        """The cells [n_mels, num_frames] of a slice, or of several, by place in `slice_index()`."""
        cells = self.read(np.atleast_1d(self._rows_at(place)))
        return cells if isinstance(place, slice) else np.asarray(cells[0])

    def close(self) -> None:
        """Closes the files that reading has opened."""
        self._reader.close()

    def recordings(self) -> pl.DataFrame:
        """One row per recording that has slices, sorted by first_row, the csv's columns too."""
        return self._recordings

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes of taxonomy.csv, where the source had no recording of some; else none."""
        return read_classes(self.objects)

    def rejects(self) -> pl.DataFrame:
        """Every recording that gave nothing, or only a part, with the reason."""
        return self._rejects.drop(PART)

    def duplicates(self) -> pl.DataFrame:
        """The recordings whose slices are kept under another's id, `duplicate_of`.

        Of a large store they are read at each call.
        """
        return self._with_duplicates().filter(pl.col("status") == DUPLICATE)

    def slice_index(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """One row per slice, sorted by row: recording_id, slice_no, start_s, features, crc32c.

        `columns`: those that are needed, at least; a large store maps numbers without the rest.
        """
        if columns is not None and "_numbered_index" not in self.__dict__:
            mapped = self._shared.slices(self._recordings, columns or ["row"])
            if mapped is not None:
                return mapped
        return self._numbered_index.drop(RECORDING_NO)

    def slice_table(self, more: pl.DataFrame | None = None) -> pl.LazyFrame:
        """The slice index joined with its recording's columns: the table `slices` of queries.

        `more`: further columns, with a line for each of the index, in its order.
        """
        columns = self._recordings.drop("recording_id", "first_row")
        index = self._numbered_index
        if more is not None:
            index = index.hstack(more)
        return late_join(index, columns, RECORDING_NO)

    def query(self, what: str | pl.Expr | None = None) -> pl.LazyFrame:
        """Slices by SQL over `slices` and `recordings`, by a Polars filter, or all of them.

        Raises ConfigError on SQL that is not one SELECT over those tables.
        """
        if what is None:
            return self.slice_table()
        if isinstance(what, pl.Expr):
            return self.slice_table().filter(what)
        tables = {"slices": self.slice_table(), "recordings": self._recordings.lazy()}
        return select(what, tables)

    def slices(self, frame: pl.DataFrame | pl.LazyFrame | None = None) -> np.ndarray:
        """The cells of a frame's rows, [n, n_mels, num_frames]; of the whole store without one."""
        if frame is None:
            frame = self._numbered_index
        if isinstance(frame, pl.LazyFrame):
            frame = frame.collect()
        if "row" not in frame.columns:
            raise StoreError(f"slices need the column `row`; there are {', '.join(frame.columns)}")
        if not frame["row"].dtype.is_integer() or frame["row"].has_nulls():
            raise ConfigError(
                f"the column `row` must be whole numbers, as in the index, not "
                f"{frame['row'].dtype}{' with nulls' if frame['row'].has_nulls() else ''}"
            )
        return self.read(frame["row"].to_numpy())

    def read(self, rows: np.ndarray | Sequence[int]) -> np.ndarray:
        """Cells by row, in the order given, [n, n_mels, num_frames]; checks each checksum."""
        wanted = np.asarray(rows, np.int64).reshape(-1)
        out = np.empty((len(wanted), *self.recipe.slice_shape), self.recipe.dtype)
        self._reader.read(self.extents(wanted), out)
        return out

    def extents(self, rows: np.ndarray) -> Extents:
        """Extents of the slices of int64 rows [n], in that order; StoreError on an unknown row."""
        checksums = self._checksums_of(rows)
        shard_of_row, place = np.divmod(rows, SLICES_PER_ZARR_SHARD)
        shards, object_no = np.unique(shard_of_row, return_inverse=True)
        table = self._shards.edges(shards.tolist())
        offset = table[object_no, place].astype(np.int64)
        return Extents(
            objects=tuple(self.objects.describe(shard_name(int(shard_no))) for shard_no in shards),
            object_no=object_no.astype(np.int32),
            offset=offset,
            length=table[object_no, place + 1].astype(np.int64) - offset,
            crc32c=checksums,
            codecs=(self.codec,) * len(shards),
            remote=is_remote(self.url),
        )

    def shard_use(self, rows: np.ndarray) -> ShardUse:
        """Bytes of the slices of int64 rows [n], and of the zarr shards in an object store.

        An estimate, by the sizes in one of the zarr shards.
        """
        shards = np.unique(rows // SLICES_PER_ZARR_SHARD)
        if not is_remote(self.url) or not len(shards):
            return ShardUse()
        shard_bytes = int(self._shards.edges([int(shards[0])])[0, -1])
        return ShardUse(
            needed_bytes=len(rows) * shard_bytes // SLICES_PER_ZARR_SHARD,
            shard_bytes=len(shards) * shard_bytes,
        )

    def _read_live(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Reads the recordings, also those without slices, and the rejects."""
        state = read_parts(self.objects, self._parts, self._tables.get_many)
        live = state.live_recordings()
        names = [name for name in live.columns if name != PART]
        # Column by column, since `drop` would have all of it twice: a GB for millions of recordings
        columns = {name: live.drop_in_place(name).rechunk() for name in names}
        return pl.DataFrame(columns), state.rejects

    def _with_duplicates(self) -> pl.DataFrame:
        return self._read_live()[0] if self._live is None else self._live

    @cached_property
    def _recordings(self) -> pl.DataFrame:
        if self._mapped is not None:
            return self._mapped
        live = self._with_duplicates()
        # Opening a small store is mostly calls of Polars: without those that would change nothing.
        if (live["num_slices"] == 0).any():
            live = live.filter(pl.col("num_slices") > 0)
        if not live["first_row"].is_sorted():
            live = live.sort("first_row")
        if live["first_row"].has_nulls():
            raise DamageError(
                f"{self.url} has slices of {live['recording_id'][0]!r} without a row: run "
                "tools.verify --repair"
            )
        return live

    @cached_property
    def _numbered_index(self) -> pl.DataFrame:
        """The rows of live recordings, each with its recording's position in `recordings()`."""
        index = read_tables(self.objects, INDEX, self._parts, self._tables.get_many)
        index.drop_in_place(PART)
        index = index.rechunk() if index["row"].is_sorted() else index.sort("row")
        first, count = (self._recordings[name].to_numpy() for name in ("first_row", "num_slices"))
        begins, ends = np.searchsorted(index["row"].to_numpy(), [first, first + count])
        held = ends - begins
        self._check_rows(index, begins, ends, count)
        if held.sum() < len(index):  # some rows are of recordings that were dropped or replaced
            index = index[np.repeat(begins - held.cumsum() + held, held) + np.arange(held.sum())]
        numbers = np.repeat(np.arange(len(held), dtype=np.int32), held)
        return index.with_columns(pl.Series(RECORDING_NO, numbers))

    def _check_rows(
        self, index: pl.DataFrame, begins: np.ndarray, ends: np.ndarray, count: np.ndarray
    ) -> None:
        """Raises DamageError unless rows, from `begins` to `ends`, are of one recording each."""
        there = ends > begins
        found = index["recording_id"][begins[there]]
        named = self._recordings["recording_id"].filter(pl.Series(there))
        if (
            (begins[1:] < ends[:-1]).any()
            or (ends - begins > count).any()
            or (found != named).any()
        ):
            raise DamageError(
                f"{self.url} has rows twice, or rows of another recording than it says: run "
                "tools.verify --repair"
            )

    def _rows_at(self, place: int | slice) -> np.ndarray:
        if self._shared_checksums is None:
            return np.asarray(self._numbered_index["row"].to_numpy()[place])
        return self._slice_numbers.row_at(np.arange(len(self))[place])

    def _checksums_of(self, rows: np.ndarray) -> np.ndarray:
        """The crc32c of int64 rows [n]; StoreError on an unknown row."""
        if self._shared_checksums is None:
            places = find_rows(self._numbered_index["row"].to_numpy(), rows, self.url)
            return np.asarray(self._numbered_index["crc32c"].to_numpy()[places])
        places, found = self._slice_numbers.find(rows)
        if not found.all():
            raise unknown_row(rows[~found][0], self.url, len(self))
        return np.asarray(self._shared_checksums[places])

    @cached_property
    def _slice_numbers(self) -> SliceNumbers:
        first, count = (self._recordings[name].to_numpy() for name in ("first_row", "num_slices"))
        return SliceNumbers(first, count)

    @cached_property
    def _shared_checksums(self) -> np.ndarray | None:
        """The checksums of all slices of a large store, mapped; None: they are in the index."""
        if "_numbered_index" in self.__dict__:
            return None
        return self._shared.checksums(self._recordings)


def open_store(url: str, remote: RemoteConfig = DEFAULT) -> Store:
    """Opens a store; raises StoreError where there is none."""
    return Store(url, remote)
