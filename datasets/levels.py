"""Levels of slices by row, by which cells of several slices are joined or added as they sounded.

    levels = Levels(source)
    levels.of(rows)  # dB re full scale, of the loudest cell of each slice

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

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Returns the level of each slice of int64 rows [...], float32 [...].

        That of a recipe whose cells are absolute is the same for all.
        """
        recipe = self._source.recipe
        if not recipe.relative_to_slice:
            return np.full(rows.shape, recipe.ceiling_db, np.float32)
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
            "build the store from the audio, or leave out chunk.length_s, sampling.inject and "
            "augment.mixup.domain=power"
        )
        if LEVEL not in index.columns:
            raise ConfigError(
                f"the slices of {url} are without levels, the column {LEVEL} of a store's index, "
                f"by which slices are joined or added in power: {way_out}"
            )
        column = index[LEVEL].cast(pl.Float32)
        missing = int(column.fill_nan(None).null_count())
        if missing:
            raise ConfigError(
                f"{missing:,} of {len(index):,} slices of {url} are without a level ({LEVEL}), by "
                f"which slices are joined or added in power: {way_out}"
            )
        return index["row"].to_numpy(), column.to_numpy()
