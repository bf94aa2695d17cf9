"""Makes detections of the probabilities of windows.

    detector = Detector.open(DetectConfig(threshold=0.7, merge_gap_s=0), classes)
    frame = detector.find(windows)  # columns of SCHEMA

A class is a detection in a window where all of these hold:

1. it is no label of `detect.exclude`, and the species lists allow it at the site;
2. its score is at least its threshold: that of `detect.thresholds`, else `detect.threshold`;
3. it is among the `detect.top_k` highest scores of the window, of the classes that 1 leaves.

2 and 3 are independent: either may be null. A class without a score (NaN, as of a model that lacks
it) is never a detection. Then detections are joined (merging.py), end with the recording where its
last window was padded, and those shorter than `detect.min_s` are dropped.

Shapes: W windows, C classes.
"""

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import polars as pl

from training.inference.outputs.class_lists import (
    SpeciesLists,
    read_species,
    read_thresholds,
    species_of_place,
)
from training.inference.outputs.config import DetectConfig
from training.inference.outputs.merging import TOLERANCE_S, Spans, merge_spans
from training.inference.predictions import ClassTable, PredictedRecording, WindowPredictions

BLOCK_WINDOWS = 1 << 14  # of long recordings; their masks and ranks are made block by block
OF_RECORDING = ("recording_id", "path", "date", "time", "site", "latitude", "longitude")
SCHEMA = pl.Schema(
    {
        "recording_id": pl.String(),
        "path": pl.String(),
        "start_s": pl.Float64(),
        "end_s": pl.Float64(),
        "label": pl.String(),
        "common_name": pl.String(),
        "scientific_name": pl.String(),
        "score": pl.Float32(),
        "datetime": pl.Datetime("ms"),
        "date": pl.String(),
        "time": pl.String(),
        "site": pl.String(),
        "latitude": pl.Float64(),
        "longitude": pl.Float64(),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detector:
    """Rules of detection for the classes of a run."""

    config: DetectConfig
    classes: ClassTable
    least_C: np.ndarray  # float32 [C]: thresholds
    allowed_C: np.ndarray  # bool [C], at any site
    species: SpeciesLists = field(default_factory=lambda: SpeciesLists(by_site={}))

    @classmethod
    def open(
        cls,
        config: DetectConfig,
        classes: ClassTable,
        presence: dict[str, float] | None = None,
        *,
        calibrated: bool = False,
    ) -> "Detector":
        """Reads the lists that the config names; ConfigError where one does not fit the classes.

        `presence`: probability of each species, by label or scientific name, at the place and week
        of the config. `calibrated`: scores are, see `read_thresholds`.
        """
        known: dict[str, float] = {}
        if config.thresholds is not None:
            known = read_thresholds(config.thresholds, classes, calibrated=calibrated)
        # float32 as the scores are: a score of 0.7 is then at the threshold of 0.7
        general = -np.inf if config.threshold is None else config.threshold
        least_C = np.array([known.get(label, general) for label in classes.labels], np.float32)
        allowed_C = np.array([label not in config.exclude for label in classes.labels], bool)
        if presence is not None:
            allowed_C &= species_of_place(presence, config.min_presence, classes)
        species = SpeciesLists(by_site={})
        if config.species is not None:
            species = read_species(config.species, classes)
        return cls(
            config=config, classes=classes, least_C=least_C, allowed_C=allowed_C, species=species
        )

    def allowed(self, site: str | None) -> np.ndarray:
        """Classes that can be a detection at a site, bool [C]."""
        listed_C = self.species.of(site)
        return self.allowed_C if listed_C is None else self.allowed_C & listed_C

    def find(self, windows: WindowPredictions) -> pl.DataFrame:
        """Detections of a recording with the columns of SCHEMA, by start, score, label."""
        spans = self._spans(windows)
        if self.config.merge_gap_s is not None:
            spans = merge_spans(spans, self.config.merge_gap_s)
        # The last window may be padded beyond the end of the recording.
        end_s = np.minimum(spans.end_s, max(windows.recording.duration_s, 0.0))
        end_s = np.where(end_s > spans.start_s, end_s, spans.end_s)
        spans = Spans(start_s=spans.start_s, end_s=end_s, score=spans.score, place=spans.place)
        spans = spans.take(end_s - spans.start_s >= self.config.min_s - TOLERANCE_S)
        return self._frame(windows.recording, spans)

    def _spans(self, windows: WindowPredictions) -> Spans:
        """Detections of single windows."""
        allowed_C = self.allowed(windows.recording.site)
        rows, places = [], []
        for first in range(0, len(windows.start_s), BLOCK_WINDOWS):
            scores_WC = windows.probabilities[first : first + BLOCK_WINDOWS]
            # NaN compares as False
            keep_WC = (scores_WC >= self.least_C) & allowed_C
            if self.config.top_k is not None and self.config.top_k < len(allowed_C):
                keep_WC &= _among_highest(scores_WC, allowed_C, self.config.top_k)
            row, place = np.nonzero(keep_WC)
            rows.append(row + first)
            places.append(place)
        row = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        place = np.concatenate(places) if places else np.zeros(0, np.int64)
        return Spans(
            start_s=windows.start_s[row],
            end_s=windows.end_s[row],
            score=windows.probabilities[row, place],
            place=place,
        )

    def _frame(self, recording: PredictedRecording, spans: Spans) -> pl.DataFrame:
        labels = np.array(self.classes.labels, dtype=object)
        alphabetical = np.empty(len(labels), np.int64)
        alphabetical[np.argsort(labels, kind="stable")] = np.arange(len(labels))
        order = np.lexsort((alphabetical[spans.place], -spans.score, spans.start_s))
        spans = spans.take(order)
        names = {"label": [*self.classes.labels]}
        for column in ("common_name", "scientific_name"):
            names[column] = [self.classes.name(label, column) for label in self.classes.labels]
        columns = {
            "start_s": spans.start_s,
            "end_s": spans.end_s,
            # no lists of a million texts
            **{
                name: pl.Series(texts, dtype=pl.String).gather(spans.place)
                for name, texts in names.items()
            },
            "score": spans.score,
            "datetime": _times(recording, spans.start_s),
        }
        same = [pl.lit(getattr(recording, name), SCHEMA[name]).alias(name) for name in OF_RECORDING]
        return pl.DataFrame(columns).with_columns(same).cast(SCHEMA).select(list(SCHEMA))


def began(recording: PredictedRecording) -> datetime | None:
    """Start of a recording on its recorder's clock; None where date or time is unknown."""
    try:
        return datetime.fromisoformat(f"{recording.date}T{recording.time}").replace(tzinfo=None)
    except ValueError:
        return None


def empty_detections() -> pl.DataFrame:
    """A frame with the columns of detections and no row."""
    return pl.DataFrame(schema=SCHEMA)


def _times(recording: PredictedRecording, start_s: np.ndarray) -> pl.Series:
    """Time of each detection, milliseconds; null where that of the recording is unknown."""
    start = began(recording)
    if start is None:
        return pl.Series([None] * len(start_s), dtype=pl.Datetime("ms"))
    offset_ms = pl.Series(np.round(start_s * 1000).astype(np.int64)).cast(pl.Duration("ms"))
    return pl.Series([start] * len(start_s), dtype=pl.Datetime("ms")) + offset_ms


def _among_highest(scores_WC: np.ndarray, allowed_C: np.ndarray, k: int) -> np.ndarray:
    """True for the k highest scores of each window; of equal ones the first classes count."""
    usable_WC = np.where(allowed_C & ~np.isnan(scores_WC), scores_WC, -np.inf)
    order_WC = np.argsort(-usable_WC, axis=1, kind="stable")[:, :k]
    among_WC = np.zeros(scores_WC.shape, bool)
    np.put_along_axis(among_WC, order_WC, True, axis=1)
    return among_WC
