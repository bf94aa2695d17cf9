"""What the layer reads from: a store, or a set of tar shards. Both answer the same questions."""

from typing import Protocol

import numpy as np
import polars as pl

from datasets.randomness import recording_keys
from storage.errors import ConfigError
from storage.objects.client import RemoteConfig
from storage.read.cache_policy import ShardUse
from storage.read.extents import Extents
from storage.read.sql import check_select
from storage.recipe import Recipe

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
        """Where it lies."""

    @property
    def remote(self) -> RemoteConfig:
        """Access to the object stores that it is in."""

    @property
    def recipe(self) -> Recipe:
        """How its slices were made, hence their shape and dtype."""

    @property
    def store_id(self) -> str:
        """The identity, in hex, of the store that the slices come from."""

    def recordings(self) -> pl.DataFrame:
        """One line per recording with at least one slice, sorted by `first_row`.

        At least recording_id, primary_label, secondary_labels (list), filename, duration_s,
        sample_rate_hz, first_row and num_slices; the other columns of the csv as given.
        """

    def slice_index(self) -> pl.DataFrame:
        """One line per slice, sorted by row.

        At least row, recording_id, slice_no, start_s, max_db and crc32c.
        """

    def extents(self, rows: np.ndarray) -> Extents:
        """Where the slices of these rows (int64 [n], any order) lie."""

    def shard_use(self, rows: np.ndarray) -> ShardUse:
        """Bytes of the slices of int64 rows [n], and of the shards in object stores they lie in."""


def rows_in_source(rows: np.ndarray) -> np.ndarray:
    """Rows as the source itself counts them, int64 [n], whatever its place in a mix."""
    return np.asarray(rows % SOURCE_ROWS)


def select_recordings(
    recordings: pl.DataFrame, *, where: str | None = None, limit: int | None = None
) -> pl.DataFrame:
    """The recordings for which an SQL condition holds, or a spread of `limit` of them, in order.

    The spread is that of a store built with the same limit. Raises ConfigError where the
    condition is not one or nothing is left.
    """
    chosen = recordings
    if where is not None:
        check_select(f"SELECT * FROM recordings WHERE {where}", {"recordings": recordings})
        try:
            chosen = recordings.filter(pl.sql_expr(where))
        except pl.exceptions.PolarsError as error:
            raise ConfigError(
                f"where={where!r} is no condition on recordings ({str(error).split(';')[0]}); "
                f"their columns are {', '.join(recordings.columns)}"
            ) from error
    if limit is not None and limit < len(chosen):
        order = np.argsort(recording_keys(chosen).byteswap())
        chosen = chosen[np.sort(order[: max(0, limit)])]
    if chosen.is_empty():
        raise ConfigError(
            f"none of {len(recordings)} recordings is left by where={where!r}, limit={limit}"
        )
    return chosen
