"""Tables of a large store in mapped files of the cache folder, made by the first who needs them.

They are named after the sha256 of the store's tables, and made part by part, in bounded memory.
Where that cannot be done (a full disk, tables out of order or damaged), None is returned: the
process then reads the tables into its own memory, and says what is wrong with them.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from storage.errors import DamageError
from storage.format.catalog import Catalog, ListedTables
from storage.format.tables import (
    INDEX,
    INDEX_SCHEMA,
    PART,
    RECORDINGS,
    SCHEMAS,
    decode_table,
    table_name,
)
from storage.read.shared import derived_files
from storage.read.shared.column_file import open_columns, write_columns
from storage.read.shared.derived_files import Found, open_or_make
from storage.read.shared.slice_numbers import live_lines

SHARED_FROM = 2_000_000  # slices of a store whose tables all processes of a machine share
CHECKSUMS = pl.Schema({"crc32c": INDEX_SCHEMA["crc32c"]})
OF_SLICES = pl.Schema({name: kind for name, kind in INDEX_SCHEMA.items() if name != "recording_id"})

_PARTS_AT_ONCE = 16  # read together, for object stores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Live:
    """Recordings that a store shows: of each part a mask of its lines, and the table's columns."""

    schema: pl.Schema
    of_part: list[np.ndarray]

    @property
    def number(self) -> int:
        return sum(int(lines.sum()) for lines in self.of_part)


class SharedTables:
    """Mapped tables of the parts of a store; each method returns None where they cannot be had."""

    def __init__(self, tables: ListedTables, parts: Sequence[int], folder: Path) -> None:
        self._tables = tables
        self._parts = parts
        self._folder = folder

    @cached_property
    def _listed(self) -> Catalog | None:
        """The catalogue that the key is of, of a large store; None: nothing is shared."""
        catalog = self._tables.listed()
        entries = [catalog.entries.get(table_name(INDEX, part), {}) for part in self._parts]
        rows = sum(one["last_row"] - one["first_row"] + 1 for one in entries if "last_row" in one)
        return catalog if rows >= SHARED_FROM else None

    @cached_property
    def _key(self) -> str | None:
        if self._listed is None:
            return None
        names = [table_name(table, one) for table in (RECORDINGS, INDEX) for one in self._parts]
        key = self._tables.key_of(names)
        return key if self._tables.catalog is self._listed else None

    def recordings(self) -> pl.DataFrame | None:
        """Maps the recordings with slices, sorted by `first_row`, with all of their columns.

        Raises DamageError on a table that is not what was written.
        """
        if self._key is None:
            return None
        for names in self._groups(RECORDINGS):  # are held against the catalogue
            self._tables.get_many(names)
        if self._tables.catalog is not self._listed:  # replaced meanwhile
            return None
        path = self._folder / f"{self._key}{derived_files.RECORDINGS}"
        return self._try(lambda: open_columns(path), lambda: self._write_recordings(path))

    def slices(self, recordings: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame | None:
        """Maps columns of the slices of all recordings, sorted by row."""
        if self._key is None or not set(names) <= set(OF_SLICES):
            return None
        path = self._folder / f"{self._key}{derived_files.SLICES}"
        num = int(recordings["num_slices"].sum())
        return self._try(
            lambda: open_columns(path, names),
            lambda: write_columns(path, OF_SLICES, num, self._slices(recordings)),
        )

    def checksums(self, recordings: pl.DataFrame) -> np.ndarray | None:
        """Maps the checksums of the slices of all recordings, by row, uint32."""
        if self._key is None:
            return None
        path = self._folder / f"{self._key}{derived_files.CHECKSUMS}"
        num = int(recordings["num_slices"].sum())
        found = self._try(
            lambda: open_columns(path),
            lambda: write_columns(path, CHECKSUMS, num, self._checksums(recordings)),
        )
        return None if found is None else found["crc32c"].to_numpy()

    def _try(
        self, open_it: Callable[[], Found | None], make_it: Callable[[], bool]
    ) -> Found | None:
        return open_or_make(self._folder, f"tables of {self._tables.objects.url}", open_it, make_it)

    def _groups(self, table: str) -> Iterator[list[str]]:
        """Yields the names of a table of all parts, some at a time."""
        for begin in range(0, len(self._parts), _PARTS_AT_ONCE):
            parts = self._parts[begin : begin + _PARTS_AT_ONCE]
            yield [table_name(table, part) for part in parts]

    def _read(
        self, table: str, columns: list[str] | None = None
    ) -> Iterator[tuple[bytes, pl.DataFrame]]:
        """Yields the table of each part, as bytes and decoded.

        Ends early where one is damaged, which reading all of them says better, or was replaced:
        then the store's tables have another key.
        """
        for names in self._groups(table):
            try:
                found = self._tables.get_many(names)
                if self._tables.catalog is not self._listed:
                    return
                for name, data in zip(names, found, strict=True):
                    frame = decode_table(table, data, self._tables.objects.describe(name), columns)
                    yield data, frame.drop(PART, strict=False)
            except DamageError:
                return

    def _write_recordings(self, path: Path) -> bool:
        live = self._find_live()
        if live is None:
            return False
        return write_columns(path, live.schema, live.number, self._recordings(live))

    def _find_live(self) -> _Live | None:
        """Finds the newest line of each recording, as `StoreState.live_recordings`, with slices."""
        ids, held, empty = [], [], {}
        for data, frame in self._read(RECORDINGS, ["recording_id", "num_slices"]):
            ids.append(frame["recording_id"])
            held.append(frame["num_slices"].to_numpy() > 0)
            schema = {**pl.read_parquet_schema(io.BytesIO(data)), **SCHEMAS[RECORDINGS]}
            schema.pop(PART, None)
            empty[tuple(schema.items())] = pl.DataFrame(schema=schema)
        if len(ids) < len(self._parts):
            return None
        newest = _newest(pl.concat(ids))
        ends = np.cumsum([len(one) for one in held])[:-1]
        live = zip(held, np.split(newest, ends), strict=True)
        return _Live(
            schema=pl.concat(empty.values(), how="diagonal_relaxed").schema,
            of_part=[some & others for some, others in live],
        )

    def _recordings(self, live: _Live) -> Iterator[pl.DataFrame]:
        """Yields the live recordings of each part, up to one that is not as it should be."""
        last_row, empty = -1, pl.DataFrame(schema=live.schema)
        for lines, (_, whole) in zip(live.of_part, self._read(RECORDINGS), strict=False):
            frame = pl.concat([empty, whole.filter(pl.Series(lines))], how="diagonal_relaxed")
            first_row = frame["first_row"]
            if first_row.null_count() or not _rises(last_row, first_row.to_numpy()):
                return
            last_row = first_row[-1] if len(frame) else last_row
            yield frame

    def _live_index(
        self, recordings: pl.DataFrame, columns: list[str] | None
    ) -> Iterator[tuple[pl.DataFrame, np.ndarray]]:
        """Yields the index of each part with a mask of the lines of live recordings."""
        last_row = -1
        for _, index in self._read(INDEX, columns):
            lines = live_lines(index, recordings)
            if lines is None or not _rises(last_row, index["row"].to_numpy()):
                return
            last_row = index["row"][-1] if len(index) else last_row
            yield index, lines

    def _slices(self, recordings: pl.DataFrame) -> Iterator[pl.DataFrame]:
        empty = pl.DataFrame(schema=INDEX_SCHEMA)
        for index, lines in self._live_index(recordings, None):
            frame = pl.concat([empty, index.filter(pl.Series(lines))], how="diagonal_relaxed")
            yield frame.drop("recording_id")

    def _checksums(self, recordings: pl.DataFrame) -> Iterator[pl.DataFrame]:
        for index, lines in self._live_index(recordings, ["row", "recording_id", *CHECKSUMS]):
            yield index.select(*CHECKSUMS).filter(pl.Series(lines))


def _newest(ids: pl.Series) -> np.ndarray:
    """Returns a mask of the last line of each recording."""
    if ids.n_unique() == len(ids):
        return np.ones(len(ids), bool)
    lines = pl.DataFrame({"id": ids}).with_row_index("line")
    found = np.zeros(len(ids), bool)
    found[lines.unique("id", keep="last", maintain_order=True)["line"].to_numpy()] = True
    return found


def _rises(last: int, rows: np.ndarray) -> bool:
    """True where rows increase, from above `last` on."""
    return not len(rows) or bool(rows[0] > last and (np.diff(rows) > 0).all())
