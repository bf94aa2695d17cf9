"""Items of a queue: given labels, predicted classes, detections, suspicious recordings.

source = QueueSource(frame=frame, views=views, tables=tables)
source.items("labels", View(), QueueOrder(order="random"))
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from storage.errors import ConfigError
from storage.read.sql import select
from training.inference.exploring.detections import Detections
from training.inference.exploring.frame import SliceFrame
from training.inference.exploring.reviewing.queues import SITES, QueueOrder, check_score, choose
from training.inference.exploring.scores import OofScores
from training.inference.exploring.view import View
from training.inference.exploring.views import Views
from training.inference.queries.named import NAMED

GIVEN, PREDICTED, DETECTED, SUSPECTS = "labels", "predictions", "detections", "mislabelled"
KINDS = (GIVEN, PREDICTED, DETECTED, SUSPECTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A question: is `label` heard in this stretch? `place` in the frame, or a detection."""

    recording_id: str
    start_s: float
    end_s: float
    label: str
    score: float | None
    place: int | None = None
    detection: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class QueueSource:
    """Makes the items of queues; `tables` are those of queries."""

    frame: SliceFrame
    views: Views
    tables: dict[str, pl.LazyFrame]
    scores: OofScores | None = None
    detections: Detections | None = None

    def kinds(self) -> list[str]:
        """The kinds of queues that are possible."""
        possible = {
            GIVEN: True,
            PREDICTED: self.scores is not None,
            DETECTED: self.detections is not None,
            SUSPECTS: "oof_recordings" in self.tables,
        }
        return [kind for kind in KINDS if possible[kind]]

    def items(self, kind: str, view: View, order: QueueOrder, label: str = "") -> list[Item]:
        """The items of a queue; ConfigError where there is nothing of that kind."""
        if kind not in self.kinds():
            raise ConfigError(f"of={kind} is not possible here: {', '.join(self.kinds())}")
        if kind == SUSPECTS:
            return self._suspects(view, order.count)
        if kind == DETECTED and self.detections is not None:
            return self._detected(self.detections, view, order, label)
        return self._of_slices(kind, view, order, label)

    def _of_slices(self, kind: str, view: View, order: QueueOrder, label: str) -> list[Item]:
        frame, places = self.frame, self.views.found(view)
        if kind == GIVEN:
            labels = frame.values("primary_label", places)
            scores = self._column("label_score", places)
        elif label and self.scores is not None:
            labels = pl.repeat(label, len(places), eager=True)
            scores = pl.Series(self.scores.of_class(label)[places]).fill_nan(None)
        else:
            labels, scores = frame.values("predicted", places), frame.values("score", places)
        uncertain = (scores - 0.5).abs()
        if kind == PREDICTED and not label:
            uncertain = frame.values("margin", places)
        candidates = pl.DataFrame(
            {
                "place": places,
                "key": frame.rows[places].astype(np.uint64),
                "label": labels,
                "score": scores.cast(pl.Float64),
                "uncertainty": uncertain.cast(pl.Float64),
                "recording": frame.recording_no[places],
                "group": self._sites(places) if order.order == SITES else labels,
            }
        )
        candidates = candidates.filter(pl.col("label").is_not_null())
        if label:
            candidates = candidates.filter(pl.col("label") == label)
        check_score(candidates, order, f"the {kind}")
        return self._slice_items(candidates[choose(candidates, order)])

    def _column(self, name: str, places: np.ndarray) -> pl.Series:
        if name in self.frame.columns:
            return self.frame.values(name, places)
        return pl.Series([None] * len(places), dtype=pl.Float64)

    def _sites(self, places: np.ndarray) -> pl.Series:
        """Site and day of each slice as one text; ConfigError where neither is known."""
        names = [name for name in ("site", "date") if name in self.frame.columns]
        if not names:
            raise ConfigError("order=sites needs the columns site or date of the recordings")
        parts = [self.frame.values(name, places).cast(pl.String).fill_null("") for name in names]
        return pl.DataFrame(parts).select(pl.concat_str(pl.all(), separator="|").alias("g"))["g"]

    def _slice_items(self, chosen: pl.DataFrame) -> list[Item]:
        places = chosen["place"].to_numpy()
        known = self.frame.take(places, ["recording_id", "start_s", "duration_s"])
        return [
            Item(
                recording_id=recording_id,
                start_s=start_s,
                end_s=slice_end(start_s, duration_s, self.frame.slice_s),
                label=label,
                score=score,
                place=int(place),
            )
            for (recording_id, start_s, duration_s), place, label, score in zip(
                known.iter_rows(), places, chosen["label"], chosen["score"], strict=True
            )
        ]

    def _suspects(self, view: View, count: int) -> list[Item]:
        """Recordings by the named query `mislabelled`, each with its most misleading slice.

        The question is about the whole recording, whose label it is.
        """
        frame, places = self.frame, self.views.found(view)
        found = select(NAMED["mislabelled"].sql, self.tables).collect()
        slices = pl.DataFrame(
            {
                "place": places,
                "recording_id": frame.values("recording_id", places),
                "other": frame.values("other_score", places),
            }
        ).filter(pl.col("other").is_not_null())
        worst = slices.sort("other", "place", descending=[True, False]).unique(
            "recording_id", keep="first"
        )
        suspects = found.select(
            "recording_id", "label", pl.col("label_score").alias("score")
        ).filter(pl.col("label").is_not_null())
        chosen = suspects.join(worst, on="recording_id", maintain_order="left").head(count)
        lengths_s = frame.values("duration_s", chosen["place"].to_numpy())
        return [
            replace(item, start_s=0.0, end_s=max(length_s or 0.0, item.end_s))
            for item, length_s in zip(self._slice_items(chosen), lengths_s, strict=True)
        ]

    def _detected(
        self, detections: Detections, view: View, order: QueueOrder, label: str
    ) -> list[Item]:
        places = detections.places(view)
        table = detections.facts[places]
        site = pl.concat_str(pl.col("site", "date").cast(pl.String).fill_null(""), separator="|")
        candidates = table.select(
            "recording_id",
            "start_s",
            "end_s",
            "label",
            pl.col("score").cast(pl.Float64),
            uncertainty=(pl.col("score").cast(pl.Float64) - 0.5).abs(),
            recording="recording_id",
            group=site if order.order == SITES else "label",
            place=pl.Series(places),
            key=pl.Series(places.astype(np.uint64)),
        )
        if label:
            candidates = candidates.filter(pl.col("label") == label)
        return [
            Item(
                recording_id=row["recording_id"],
                start_s=row["start_s"],
                end_s=row["end_s"],
                label=row["label"],
                score=row["score"],
                place=detections.place_of(row),
                detection=row["place"],
            )
            for row in candidates[choose(candidates, order)].iter_rows(named=True)
        ]

    def facts(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Returns what is known of the slice of each item: its row, start, label, prediction."""
        wanted = ("row", "start_s", "primary_label", "predicted", "other", "other_score")
        names = [name for name in wanted if name in self.frame.columns]
        held = [item.place for item in items if item.place is not None]
        rows = iter(self.frame.take(np.array(held, np.int64), names).to_dicts())
        empty: dict[str, Any] = dict.fromkeys(names)
        return [empty if item.place is None else next(rows) for item in items]


def slice_end(start_s: float, duration_s: float | None, slice_s: float) -> float:
    """The end of a slice in its recording, s: that of the recording where it is padded."""
    end_s = start_s + slice_s
    return end_s if duration_s is None or duration_s <= start_s else min(end_s, duration_s)
