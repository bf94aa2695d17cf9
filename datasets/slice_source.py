"""Interface to a source of slices: a store, a set of tar shards, or a mix of several."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import polars as pl

from storage.errors import ConfigError
from storage.objects.client import RemoteConfig
from storage.read.cache_policy import ShardUse
from storage.read.extents import Extents
from storage.read.sql import columns_of, filtered
from storage.recipe import Recipe
from storage.source.subset import limited

SOURCE = "source"  # column of the recordings of a mix: the name of the source
ID_IN_SOURCE = "own_recording_id"  # column of those: the id before a mix renamed it
SOURCE_ROWS = 1 << 40  # the rows of the k-th source of a mix begin at k times this


class SliceSource(Protocol):
    """Slices by row, with their index.

    Implemented by `storage.store.Store`, `datasets.shards.shard_set.ShardSet`, and
    `datasets.sources.mix.SourceMix` over several of them.

    The slices of a recording are the rows from its `first_row` on, in the order of `slice_no`.
    Rows increase, with gaps; a row means the same slice in a store and in shards made from it.
    """

    @property
    def url(self) -> str:
        """Folder or URL."""

    @property
    def remote(self) -> RemoteConfig:
        """Access to the object stores that it is in."""

    @property
    def recipe(self) -> Recipe:
        """Recipe of its slices, which gives their shape and dtype."""

    @property
    def store_id(self) -> str:
        """Identity, in hex, of the store that the slices come from."""

    def recordings(self) -> pl.DataFrame:
        """Returns one line per recording with at least one slice, sorted by `first_row`.

        At least recording_id, primary_label, secondary_labels (list), filename, duration_s,
        sample_rate_hz, first_row and num_slices; the other columns of the csv as given.
        """

    def slice_index(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Returns one line per slice, sorted by row.

        At least row, recording_id, slice_no, start_s, max_db and crc32c; with `columns`, at least
        those of them that there are, which large stores have without reading the others.
        """

    def extents(self, rows: np.ndarray) -> Extents:
        """Returns the extents of int64 rows [n], in the order given."""

    def shard_use(self, rows: np.ndarray) -> ShardUse:
        """Counts bytes of int64 rows [n], and of the shards in object stores that hold them."""


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Concatenates ranges, int64: starts (5, 9) of lengths (2, 3) give 5 6 9 10 11."""
    ends = np.cumsum(lengths, dtype=np.int64)
    found: np.ndarray = np.arange(ends[-1] if len(ends) else 0)
    found += np.repeat(starts - ends + lengths, lengths)
    return found


def pieces(length: int, most: int) -> Iterator[slice]:
    """Yields runs of at most `most` that make up 0 to `length`."""
    for begin in range(0, length, most):
        yield slice(begin, min(begin + most, length))


def row_bounds(recordings: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first row of each recording, and the row after its last, int64 [n]."""
    first_row = recordings["first_row"].to_numpy()
    return first_row, first_row + recordings["num_slices"].to_numpy()


def find_recordings(
    rows: np.ndarray, first_row: np.ndarray, end_row: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the recording of each of int64 rows [n], of those by `first_row`, and a mask [n].

    The mask is false for a row that is of none of them.
    """
    number = np.searchsorted(first_row, rows, side="right") - 1
    inside = (number >= 0) & (rows < end_row[number]) if len(first_row) else number >= 0
    return number, inside


def source_classes(source: SliceSource) -> tuple[str, ...]:
    """Returns the classes of a source's taxonomy.csv; none where it does not know of any."""
    return tuple(getattr(source, "classes", ()))  # no part of the protocol: few sources have them


def rows_in_source(rows: np.ndarray) -> np.ndarray:
    """Converts rows of a mix to rows of the source itself, int64 [n]."""
    return np.asarray(rows % SOURCE_ROWS)


def select_recordings(
    recordings: pl.DataFrame, *, where: str | None = None, limit: int | None = None
) -> pl.DataFrame:
    """Filters recordings by an SQL condition and takes `limit` of them, spread over classes.

    The subset is that of a store built with the same limit. Raises ConfigError where the condition
    is invalid or nothing is left.
    """
    chosen = recordings
    if where is not None:
        columns_of(where, "where", recordings.columns)
        try:
            chosen = filtered(recordings, where)
        except pl.exceptions.PolarsError as error:
            raise ConfigError(
                f"where={where!r} is not a valid condition ({str(error).split(';')[0]}); "
                f"their columns are {', '.join(recordings.columns)}"
            ) from error
    if limit is not None and len(chosen):
        chosen = chosen[limited(chosen, limit)]
    if chosen.is_empty():
        raise ConfigError(
            f"none of {len(recordings)} recordings is left by where={where!r}, limit={limit}"
        )
    return chosen
