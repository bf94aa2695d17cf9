"""Detections of tools.predict while a page is open: filtered, sorted, with their stored slices.

detections = Detections(table, frame)
detections.places(equal, ranges, sort, seed)    # int64 [n], positions in the table
"""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from datasets.randomness import random_bits, sort_bits
from storage.errors import ConfigError, ObjectMissingError
from training.inference.exploring.conditions import column_condition, range_condition
from training.inference.exploring.frame import SliceFrame
from training.inference.exploring.view import View

SCORE, RANDOM = "score", "random"
SORTS = (SCORE, "start_s", "label", RANDOM)
SHOWN = ("recording_id", "start_s", "end_s", "label", "common_name", "score", "site", "date")


class Detections:
    """A table of detections, numbered from 0 in its order."""

    def __init__(self, table: pl.DataFrame, frame: SliceFrame) -> None:
        self._table, self._frame = table, frame

    def __len__(self) -> int:
        """Number of detections."""
        return len(self._table)

    @cached_property
    def facts(self) -> pl.DataFrame:
        """The table with columns site and date, null where they are not there."""
        names = [name for name in ("site", "date") if name not in self._table.columns]
        return self._table.with_columns(pl.lit(None, pl.String).alias(name) for name in names)

    def places(self, view: View) -> np.ndarray:
        """Positions of the detections of a view, by its `equal`, `ranges` and `sort`."""
        places = np.arange(len(self._table))
        if conditions := list(self._conditions(view)):
            kept = self._table.select(pl.all_horizontal(conditions).alias("kept"))["kept"]
            places = np.flatnonzero(kept.to_numpy())
        order = view.sort or SCORE
        if order not in SORTS:
            raise ConfigError(f"sort={order} is none of {', '.join(SORTS)}")
        if order == RANDOM:
            keys = places.astype(np.uint64)
            bits = random_bits(keys, seed=view.seed, epoch=0, purpose="explore")
            return np.asarray(places[sort_bits(bits)])
        values = self._table[order].gather(places)
        down = view.falling != (order == SCORE)  # the highest score comes first
        ranks = values.rank("dense", descending=down).fill_null(len(places) + 1)
        return np.asarray(places[np.argsort(ranks.to_numpy(), kind="stable")])

    def _conditions(self, view: View) -> Iterable[pl.Expr]:
        by_column: dict[str, list[str]] = {}
        for name, value in view.equal:
            by_column.setdefault(name, []).append(value)
        for name, values in by_column.items():
            yield column_condition(name, self._dtype(name), values)
        for name, low, high in view.ranges:
            yield range_condition(name, self._dtype(name), low, high)

    def _dtype(self, name: str) -> pl.DataType:
        if name not in self._table.columns:
            raise ConfigError(
                f"detections have no column {name!r}; they have {', '.join(self._table.columns)}"
            )
        return self._table.schema[name]

    def of_recording(self, recording_id: str) -> np.ndarray:
        """Positions of the detections of a recording."""
        return np.flatnonzero((self._table["recording_id"] == recording_id).to_numpy())

    def one(self, number: int) -> dict[str, Any]:
        """A detection with all its columns; ObjectMissingError where there is none."""
        if not 0 <= number < len(self._table):
            raise ObjectMissingError(f"there is no detection {number}")
        return self._table.row(number, named=True)

    def place_of(self, detection: dict[str, Any]) -> int | None:
        """The place of the stored slice that has most of a detection; None where none has."""
        return self._frame.covering(
            detection["recording_id"], detection["start_s"], detection["end_s"]
        )

    def shown(self, number: int) -> dict[str, Any]:
        """A detection as it is shown: with its number, and the row of its slice."""
        whole = self.one(number)
        place = self.place_of(whole)
        return {
            "detection": number,
            **{name: whole[name] for name in SHOWN if name in whole},
            "row": None if place is None else int(self._frame.rows[place]),
        }

    def table(self, places: np.ndarray) -> pl.DataFrame:
        """All columns of the detections at positions."""
        return self._table[places]
