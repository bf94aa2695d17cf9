"""Slices as the page shows them: a mapping per slice, with predictions, similarity and verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.inference.exploring.exploration import Exploration
from training.inference.exploring.reviewing.queue_items import slice_end
from training.inference.exploring.reviewing.review_desk import state_of
from training.inference.exploring.view import View

LEFT_OUT = ("label",)  # of an experiment: the primary label once more
ABOUT_VERDICT = ("verdict_id", "annotator", "verdict", "label", "other_label", "time")


def slice_rows(exploration: Exploration, view: View, places: np.ndarray) -> list[dict[str, Any]]:
    """The slices at places, in that order."""
    frame, scores = exploration.frame, exploration.scores
    names = [name for name in frame.columns if name not in LEFT_OUT]
    rows = frame.take(places, names).to_dicts()
    more: dict[str, Sequence[float]] = {}
    if view.label and scores is not None:
        more["class_score"] = scores.of_class(view.label)[places].tolist()
    if view.like:
        more["similarity"] = exploration.views.similarities(view, places).tolist()
    exploration.desk.refresh()
    for number, (row, place) in enumerate(zip(rows, places, strict=True)):
        row["end_s"] = slice_end(row["start_s"], row["duration_s"], frame.slice_s)
        if scores is not None:
            row["top"] = scores.best(int(place))
        row |= {name: values[number] for name, values in more.items()}
        row["review"] = review_of(exploration.desk.of_slice(row["recording_id"], row["start_s"]))
    return rows


def review_of(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The state of an item, and its verdicts."""
    shown = [{name: verdict[name] for name in ABOUT_VERDICT} for verdict in verdicts]
    return {"state": state_of([*map(dict, verdicts)]), "verdicts": shown}
