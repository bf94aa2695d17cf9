"""Levels of slices by row, by which cells of several slices are joined or added as they sounded.

    levels = Levels(source)
    levels.of(rows)  # dB re full scale, of the loudest cell of each slice
    level_weights(levels.max_db(rows), recording_no, 10.0)

A stored cell is relative to the loudest one of its own slice; `max_db` of the slice index is the
level of that one. Read at first use, then kept: 12 bytes a slice, of a large store in mapped files.
"""

from functools import cached_property

import numpy as np
import polars as pl

from datasets.slice_source import SliceSource
from storage.errors import ConfigError
from storage.read.extents import find_rows

LEVEL = "max_db"


class Levels:
    """The column `max_db` of a source by row."""

    def __init__(self, source: SliceSource) -> None:
        self._source = source

    def __reduce__(self) -> tuple[type["Levels"], tuple[SliceSource]]:
        """Another process reads them by itself, or maps the same files."""
        return Levels, (self._source,)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Returns the level of each slice of int64 rows [...], float32 [...].

        That of a recipe whose cells are absolute is the same for all.
        """
        recipe = self._source.recipe
        if not recipe.relative_to_slice:
            return np.full(rows.shape, recipe.ceiling_db, np.float32)
        return self.max_db(rows)

    def max_db(self, rows: np.ndarray) -> np.ndarray:
        """Returns `max_db` of each slice of int64 rows [...], float32 [...], of any recipe.

        Raises ConfigError where a slice of the source has none.
        """
        known, max_db = self._table
        found: np.ndarray = max_db[find_rows(known, rows.ravel(), self._source.url)]
        return found.reshape(rows.shape)

    def load(self) -> None:
        """Reads the levels now; raises ConfigError where a slice of the source has none."""
        if self._source.recipe.relative_to_slice:
            _ = self._table

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        index, url = self._source.slice_index(["row", LEVEL]), self._source.url
        way_out = (
            "build the store from the audio, or leave out chunk.length_s, sampling.inject, "
            "augment.mixup.domain=power and trainer.pool_scale_db"
        )
        if LEVEL not in index.columns:
            raise ConfigError(
                f"the slices of {url} are without levels, the column {LEVEL} of a store's index, "
                f"by which slices are joined, added in power or weighted: {way_out}"
            )
        column = index[LEVEL].cast(pl.Float32)
        missing = int(column.fill_nan(None).null_count())
        if missing:
            raise ConfigError(
                f"{missing:,} of {len(index):,} slices of {url} are without a level ({LEVEL}), by "
                f"which slices are joined, added in power or weighted: {way_out}"
            )
        return index["row"].to_numpy(), column.to_numpy()


def level_weights(level_N: np.ndarray, recording_N: np.ndarray, scale_db: float) -> np.ndarray:
    """Returns weights of slices that fall by 1/e per `scale_db` below their recording's loudest.

    `level_N` dB, `recording_N` int64, the recording of each; float64 [N], 1 for the loudest.
    """
    _, number_N = np.unique(recording_N, return_inverse=True)
    loudest = np.full(number_N.max(initial=-1) + 1, -np.inf)
    np.maximum.at(loudest, number_N, level_N)
    return np.asarray(np.exp((level_N - loudest[number_N]) / scale_db))
