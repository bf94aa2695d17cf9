"""Counts of the values of columns over a view, to filter by: a facet ignores its own filter.

Shapes: n slices of a view.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from training.inference.exploring.frame import SliceFrame
from training.inference.exploring.view import REVIEW, View
from training.inference.exploring.views import Views

MAX_VALUES = 200
BINS = 24
FACETS = (
    *("primary_label", "predicted", "site", "date", "fold", "outcome", "author", "silent"),
    *("class_name", "order", "family", "genus", "collection"),
)
RANGES = (
    *("active_share", "max_db", "mean_db", "centroid_hz", "peak_hz", "rating", "start_s"),
    *("score", "label_score", "loss", "other_score", "margin", "entropy"),
    *("score_2", "label_score_2", "loss_2", "margin_2", "entropy_2"),
)


def value_counts(frame: SliceFrame, name: str, places: np.ndarray) -> dict[str, Any]:
    """The facet of a column: its most frequent values with counts, and what is left out."""
    if frame.is_of_recordings(name):
        shares = np.bincount(frame.recording_no[places], minlength=frame.num_recordings)
        table = pl.DataFrame({"value": frame.of_recordings(name), "count": shares})
        counted = table.group_by("value").agg(pl.col("count").sum()).filter(pl.col("count") > 0)
    else:
        values = frame.values(name, places)
        counted = values.alias("value").value_counts(name="count")
    is_text = counted.schema["value"] == pl.String
    none = counted["value"].is_null() | (counted["value"] == "" if is_text else False)
    some = counted.filter(~none).sort("count", "value", descending=[True, False])
    shown = some.head(MAX_VALUES)
    return {
        "name": name,
        "values": [
            {"value": shown_value(value), "count": count} for value, count in shown.iter_rows()
        ],
        "more": len(some) - len(shown),
        "none": int(counted.filter(none)["count"].sum()),
    }


def shown_value(value: object) -> str:
    """A value as `is=COLUMN:VALUE` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def review_counts(states: Mapping[str, np.ndarray], mask: np.ndarray) -> dict[str, Any]:
    """The facet of the states of verdicts; `mask`, bool [N], are the slices of the view."""
    counts = {state: int(mask[places].sum()) for state, places in sorted(states.items())}
    counts["none"] = int(mask.sum()) - sum(counts.values())
    values = [{"value": state, "count": count} for state, count in counts.items() if count]
    return {"name": REVIEW, "values": values, "more": 0, "none": 0}


def histogram(name: str, values: np.ndarray, bins: int = BINS) -> dict[str, Any]:
    """Counts of finite values in even bins between the smallest and the largest one."""
    finite = values[np.isfinite(values)]
    none = len(values) - len(finite)
    if not len(finite):
        return {"name": name, "low": None, "high": None, "edges": [], "counts": [], "none": none}
    low, high = float(finite.min()), float(finite.max())
    counts, edges = binned(finite, low, high, bins)
    return {
        "name": name,
        "low": low,
        "high": high,
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "none": none,
    }


def binned(values: np.ndarray, low: float, high: float, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts int64 [bins] of finite values, and edges [bins + 1]; the last bin has its end."""
    width = (high - low) or 1.0
    place = ((values - low) * (bins / width)).astype(np.int64)
    counts = np.bincount(np.clip(place, 0, bins - 1), minlength=bins)
    return counts, low + width * np.arange(bins + 1) / bins


def facet_list(
    views: Views,
    view: View,
    names: list[str],
    states: Mapping[str, np.ndarray],
    frame: SliceFrame,
) -> Iterator[dict[str, Any]]:
    """Yields the facets of a view."""
    for name in names:
        others = tuple(pair for pair in view.equal if pair[0] != name)
        places = views.found(replace(view, equal=others))
        if name == REVIEW:
            mask = np.zeros(len(frame), bool)
            mask[places] = True
            yield review_counts(states, mask)
        else:
            yield value_counts(frame, name, places)


def range_list(
    views: Views, view: View, names: list[str], frame: SliceFrame
) -> Iterator[dict[str, Any]]:
    """Yields the histograms of a view."""
    for name in names:
        others = tuple(one for one in view.ranges if one[0] != name)
        places = views.found(replace(view, ranges=others))
        yield histogram(name, frame.numbers(name)[places])
