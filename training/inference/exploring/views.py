"""Finds and sorts the slices of a view; keeps those that were found last.

    views.places(view)   # int64 [n], in the order of the view

Paging through a view is taking parts of that array: exhaustive, without repeats, and quick.
Shapes: N slices of the store, n of the view.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
import polars as pl

from datasets.randomness import random_bits, sort_bits
from storage.errors import ConfigError
from storage.read.sql import collect, columns_of, select
from training.inference.exploring.conditions import column_condition, range_condition
from training.inference.exploring.frame import SliceFrame
from training.inference.exploring.scores import OofScores
from training.inference.exploring.view import (
    CLASS,
    MISLABELLED,
    QUERY,
    RANDOM,
    REVIEW,
    ROW,
    SIMILARITY,
    TARGET,
    WRONG,
    View,
)

QUERY_S = 20.0  # of a query by SQL
QUERIES_AT_ONCE = 2
QUERY_BYTES = 2**30
KEPT_BYTES = 192 * 2**20  # of places of views that were found last


class Nearness(Protocol):
    """Interface of neighbours."""

    def nearest(self, like: str, leave_out: str) -> tuple[np.ndarray, np.ndarray]:
        """Places of slices by falling similarity, int64 [k], and that similarity [k]."""


class Plane(Protocol):
    """Interface of a map."""

    def inside(self, polygon: tuple[float, ...]) -> np.ndarray:
        """Places of slices within a polygon of the map."""


class Views:
    """Answers views over a frame. Safe to use from threads."""

    def __init__(
        self,
        frame: SliceFrame,
        tables: Callable[[], Mapping[str, pl.LazyFrame]],
        scores: OofScores | None,
        nearness: Nearness,
        plane: Plane,
        reviewed: Callable[[], tuple[int, Mapping[str, np.ndarray]]],
    ) -> None:
        """`reviewed` gives a version, and the places of each state of verdicts.

        `tables` are those of queries; all but reviews stay the same.
        """
        self._frame, self._tables, self._scores = frame, tables, scores
        self._nearness, self._plane, self._reviewed = nearness, plane, reviewed
        self._kept: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._querying = threading.BoundedSemaphore(QUERIES_AT_ONCE)

    def places(self, view: View) -> np.ndarray:
        """Places of the slices of a view in its order, int64 [n]."""
        return self._cached("sorted", view, self._sorted)

    def found(self, view: View) -> np.ndarray:
        """Places of the slices of a view, rising, int64 [n]; its order does not count."""
        plain = replace(view, sort=ROW, falling=False, seed=0, label="", target=None)
        return self._cached("found", plain, self._found)

    def similarities(self, view: View, places: np.ndarray) -> np.ndarray:
        """The similarity of slices to what a view asks neighbours of, float32; NaN for none."""
        near, similar = self._nearness.nearest(view.like, view.leave_out)
        every = np.full(len(self._frame), np.nan, np.float32)
        every[near] = similar
        return np.asarray(every[places])

    def _cached(self, kind: str, view: View, make: Callable[[View], np.ndarray]) -> np.ndarray:
        version = self._reviewed()[0] if _depends_on_reviews(view) else 0
        key = (kind, view, version)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make(view)
        made.flags.writeable = False
        with self._lock:
            self._kept[key] = made
            self._forget()
        return made

    def _forget(self) -> None:
        held = sum(one.nbytes for one in self._kept.values())
        while held > KEPT_BYTES and len(self._kept) > 1:
            held -= self._kept.popitem(last=False)[1].nbytes

    def _found(self, view: View) -> np.ndarray:
        mask = np.ones(len(self._frame), bool)
        conditions = self._conditions(view)
        if conditions:
            rows = self._frame.lazy.filter(conditions).select("row").collect()["row"]
            mask = self._mask(np.searchsorted(self._frame.rows, rows.to_numpy()))
        if view.where:
            mask &= self._mask(self._queried(view))
        if view.polygon:
            mask &= self._mask(self._plane.inside(view.polygon))
        if view.like:
            mask &= self._mask(self._nearness.nearest(view.like, view.leave_out)[0])
        if states := {value for name, value in view.equal if name == REVIEW}:
            mask &= self._review_mask(states)
        return np.flatnonzero(mask)

    def _mask(self, places: np.ndarray) -> np.ndarray:
        mask = np.zeros(len(self._frame), bool)
        mask[places] = True
        return mask

    def _review_mask(self, states: set[str]) -> np.ndarray:
        mask = np.zeros(len(self._frame), bool)
        for state, places in self._reviewed()[1].items():
            if state in states:
                mask[places] = True
        if "none" in states:
            some = np.zeros(len(self._frame), bool)
            for places in self._reviewed()[1].values():
                some[places] = True
            mask |= ~some
        return mask

    def _conditions(self, view: View) -> list[pl.Expr]:
        by_column: dict[str, list[str]] = {}
        for name, value in view.equal:
            if name != REVIEW:
                by_column.setdefault(name, []).append(value)
        frame = self._frame
        found = [column_condition(name, frame.dtype(name), v) for name, v in by_column.items()]
        return found + [
            range_condition(name, frame.dtype(name), low, high) for name, low, high in view.ranges
        ]

    def _queried(self, view: View) -> np.ndarray:
        """Places of the slices that SQL finds, each once, in the order of the query."""
        return self._cached("queried", View(where=view.where), self._query)

    def _query(self, view: View) -> np.ndarray:
        if view.is_select:
            sql = view.where
        else:
            columns_of(view.where, "where", self._frame.columns)
            sql = f"SELECT row FROM slices WHERE {view.where}"
        found = select(sql, self._tables())
        if "row" not in found.collect_schema().names():
            raise ConfigError("a SELECT here needs the column `row`")
        with self._querying:
            rows = collect(found.select("row"), QUERY_S, QUERY_BYTES)["row"]
        if not rows.dtype.is_integer():
            raise ConfigError(f"the column `row` must be whole numbers, not {rows.dtype}")
        wanted = rows.drop_nulls().unique(maintain_order=True).cast(pl.Int64).to_numpy()
        places = np.minimum(np.searchsorted(self._frame.rows, wanted), len(self._frame) - 1)
        known = self._frame.rows[places] == wanted if len(self._frame) else wanted < wanted
        return np.asarray(places[known])

    def _sorted(self, view: View) -> np.ndarray:
        places = self.found(view)
        order = view.order
        if order == ROW:
            return places[::-1] if view.falling else places
        if order == RANDOM:
            rows = self._frame.rows[places].astype(np.uint64)
            bits = random_bits(rows, seed=view.seed, epoch=0, purpose="explore")
            return np.asarray(places[sort_bits(bits)])
        if order == SIMILARITY:
            near = self._nearness.nearest(view.like, view.leave_out)[0]
            return np.asarray(near[self._mask(places)[near]])
        if order == QUERY:
            if not view.is_select:
                raise ConfigError("sort=query needs a SELECT in where=")
            queried = self._queried(view)
            return np.asarray(queried[self._mask(places)[queried]])
        keys = [key[places] for key in self._keys(view)]
        return np.asarray(places[np.lexsort(tuple(keys[::-1]))])

    def _keys(self, view: View) -> list[np.ndarray]:
        """Keys to sort by, the smallest first, float64 [N] each; NaN comes last."""
        order, numbers = view.order, self._frame.numbers
        if order in (CLASS, TARGET):
            if self._scores is None:
                raise ConfigError(f"sort={order} needs the scores of an experiment")
            scores = self._scores.of_class(view.label).astype(np.float64)
            return [-scores if view.target is None or order == CLASS else abs(scores - view.target)]
        if order == WRONG:
            self._frame.dtype("predicted")
            everywhere = np.arange(len(self._frame))
            same = self._frame.values("label", everywhere).eq_missing(
                self._frame.values("predicted", everywhere)
            )
            return [same.to_numpy().astype(np.float64), -numbers("loss")]
        if order == MISLABELLED:
            return [numbers("label_score") - numbers("other_score")]
        return [-numbers(order) if view.falling else numbers(order)]


def _depends_on_reviews(view: View) -> bool:
    return any(name == REVIEW for name, _ in view.equal) or REVIEW in view.where.lower()
