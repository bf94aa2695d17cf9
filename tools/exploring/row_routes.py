"""Routes of slices: pages of rows, facets, a whole recording, histograms, comparison, taxonomy."""

from typing import Any

import numpy as np
import polars as pl
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from storage.errors import ConfigError, ObjectMissingError
from tools.exploring.answers import json_answer
from tools.exploring.parameters import Parameters
from tools.exploring.row_table import review_of, slice_rows
from training.inference.exploring.comparison import compare
from training.inference.exploring.exploration import Exploration
from training.inference.exploring.facets import (
    FACETS,
    RANGES,
    binned,
    facet_list,
    range_list,
)
from training.inference.exploring.view import REVIEW, View
from training.inference.queries.tables import taxonomy

MAX_SLICES = 2_000  # of a recording
MAX_CLASSES = 20_000
SLICES, DETECTIONS = "slices", "detections"


class RowRoutes:
    """Answers from the frame and its views."""

    def __init__(self, exploration: Exploration) -> None:
        self._exploration = exploration
        self._frame, self._views = exploration.frame, exploration.views
        self._taxonomy = taxonomy(exploration.store)

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/api/rows", self.rows),
            Route("/api/facets", self.facets),
            Route("/api/recording", self.recording),
            Route("/api/detections", self.detections),
            Route("/api/histogram", self.histogram),
            Route("/api/compare", self.compare),
            Route("/api/taxonomy", self.taxonomy),
        ]

    def rows(self, request: Request) -> Response:
        """A page of the slices of a view."""
        given = Parameters(request.query_params)
        view = given.view()
        start, count = given.window()
        places = self._views.places(view)
        rows = slice_rows(self._exploration, view, places[start : start + count])
        return json_answer({"total": len(places), "start": start, "rows": rows})

    def facets(self, request: Request) -> Response:
        """Counts to filter by."""
        given = Parameters(request.query_params)
        view, only = given.view(), given.many("only")
        facets = [name for name in facet_names(self._exploration) if not only or name in only]
        ranges = [name for name in range_names(self._exploration) if not only or name in only]
        states = self._exploration.reviewed()[1]
        return json_answer(
            {
                "total": len(self._views.found(view)),
                "facets": list(facet_list(self._views, view, facets, states, self._frame)),
                "ranges": list(range_list(self._views, view, ranges, self._frame)),
            }
        )

    def recording(self, request: Request) -> Response:
        """All slices, detections and verdicts of a recording."""
        name = request.query_params.get("id", "")
        places = self._frame.recording_places(name)
        if not len(places):
            raise ObjectMissingError(f"there is no recording {name!r} in the store")
        found = self._exploration.detections
        numbers = [] if found is None else found.of_recording(name).tolist()
        current = self._exploration.desk.current()
        return json_answer(
            {
                "recording": self._frame.recording(name),
                "total": len(places),
                "slices": slice_rows(self._exploration, View(), places[:MAX_SLICES]),
                "rows": self._frame.rows[places].tolist(),
                "detections": [self._detection(number) for number in numbers],
                "verdicts": current.filter(pl.col("recording_id") == name).to_dicts(),
            }
        )

    def detections(self, request: Request) -> Response:
        """A page of the detections."""
        given = Parameters(request.query_params)
        found = self._exploration.detections
        if found is None:
            raise ObjectMissingError("there are no detections: give explore.predictions=")
        start, count = given.window()
        places = found.places(given.view())
        shown = [self._detection(int(number)) for number in places[start : start + count]]
        return json_answer({"total": len(places), "start": start, "detections": shown})

    def _detection(self, number: int) -> dict[str, Any]:
        found = self._exploration.detections
        if found is None:
            raise ObjectMissingError("there are no detections")
        shown = found.shown(number)
        item = (shown["recording_id"], shown["start_s"], shown["label"])
        return shown | {"review": review_of(self._exploration.desk.of_item(*item))}

    def histogram(self, request: Request) -> Response:
        """The scores of a class, and of those that were reviewed."""
        given = Parameters(request.query_params)
        label, bins = given.text("class"), given.whole("bins", 50, 1, 1000)
        if given.text("of", SLICES) == DETECTIONS:
            scores, states = self._detected(label)
        else:
            scores, states = self._scored(label, given.view())
        finite = scores[np.isfinite(scores)]
        counts, edges = binned(finite, 0.0, 1.0, bins)
        reviewed = {
            state: binned(values[np.isfinite(values)], 0.0, 1.0, bins)[0].tolist()
            for state, values in states.items()
        }
        return json_answer(
            {
                "class": label,
                "edges": edges.tolist(),
                "counts": counts.tolist(),
                "none": len(scores) - len(finite),
                "reviewed": reviewed,
            }
        )

    def _scored(self, label: str, view: View) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Scores of the slices of a view, and of those with verdicts on the class."""
        if self._exploration.scores is None:
            raise ConfigError("scores of slices need explore.experiment=")
        scores = self._exploration.scores.of_class(label)
        places = self._views.found(view)
        states: dict[str, list[float]] = {"yes": [], "no": [], "unsure": []}
        inside = np.zeros(len(self._frame), bool)
        inside[places] = True
        for verdict in self._verdicts(label):
            begin_s = verdict["start_s"]
            place = self._frame.covering(
                verdict["recording_id"], begin_s, begin_s + self._frame.slice_s
            )
            if place is not None and inside[place]:
                states[_as_answer(verdict["verdict"])].append(float(scores[place]))
        return scores[places], {name: np.array(values) for name, values in states.items()}

    def _detected(self, label: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Scores of the detections of a class, and those that verdicts have kept."""
        found = self._exploration.detections
        if found is None:
            raise ConfigError("scores of detections need explore.predictions=")
        places = found.places(View(equal=(("label", label),)))
        states: dict[str, list[float]] = {"yes": [], "no": [], "unsure": []}
        for verdict in self._verdicts(label):
            if verdict["score"] is not None:
                states[_as_answer(verdict["verdict"])].append(verdict["score"])
        scores = found.table(places)["score"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        return scores, {name: np.array(values) for name, values in states.items()}

    def _verdicts(self, label: str) -> list[dict[str, Any]]:
        return self._exploration.desk.current().filter(pl.col("label") == label).to_dicts()

    def compare(self, _: Request) -> Response:
        """Two experiments, side by side."""
        first, second = self._exploration.scores, self._exploration.second
        if first is None or second is None:
            raise ObjectMissingError("there is nothing to compare: give explore.compare=")
        inputs = self._exploration.inputs
        names = {"first": inputs.query.experiment, "second": inputs.compare}
        return json_answer({**names, **compare(first, second)})

    def taxonomy(self, request: Request) -> Response:
        """Classes whose label or name begins with, or has, what is typed; best matches first."""
        given = Parameters(request.query_params)
        count = given.whole("count", 20, 1, MAX_CLASSES)
        found = matching(self._taxonomy, given.text("q"))[:count]
        return json_answer({"classes": found})


def facet_names(exploration: Exploration) -> list[str]:
    """The columns that are filtered by value."""
    return [*(name for name in FACETS if name in exploration.frame.columns), REVIEW]


def range_names(exploration: Exploration) -> list[str]:
    """The columns that are filtered by range."""
    columns = exploration.frame.columns
    return [name for name in RANGES if name in columns and columns[name].is_numeric()]


def matching(classes: pl.DataFrame, text: str) -> list[dict[str, Any]]:
    """The classes that a text may mean: that begin so, in label, name or word, or have it."""
    wanted = text.strip().casefold()
    ranked = []
    for row in classes.iter_rows(named=True):
        names = [row["primary_label"], row.get("common_name"), row.get("scientific_name")]
        rank = min(_match(wanted, str(name or "").casefold(), no) for no, name in enumerate(names))
        if rank < _NO_MATCH:
            shown = {name: row[name] for name in _SHOWN if row.get(name) is not None}
            ranked.append((rank, row["primary_label"], {"label": row["primary_label"], **shown}))
    return [shown for _, _, shown in sorted(ranked, key=lambda one: one[:2])]


_SHOWN = ("common_name", "scientific_name", "recordings")
_NO_MATCH = 100


def _match(wanted: str, name: str, number: int) -> int:
    if name.startswith(wanted):
        return number
    if f" {wanted}" in name:
        return 10 + number
    return 20 + number if wanted in name else _NO_MATCH


def _as_answer(verdict: str) -> str:
    return "no" if verdict == "other" else verdict
