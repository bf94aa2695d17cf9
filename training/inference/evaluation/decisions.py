"""Precision, recall and F1 of decisions: a class is detected where its score reaches a threshold.

Shapes: N windows, C classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from storage.errors import ConfigError
from storage.source.cells import is_missing, tidy_label
from storage.source.csv_text import read_csv
from training.inference.evaluation.thresholds import F1

THRESHOLD = "threshold"
DEFAULT_THRESHOLD = 0.5  # of classes that a csv gives none


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decisions:
    """Counts of each class at its threshold, int64 [C]."""

    right_C: np.ndarray
    false_C: np.ndarray
    missed_C: np.ndarray

    @classmethod
    def at(
        cls, positives_NC: np.ndarray, probabilities_NC: np.ndarray, threshold: float | np.ndarray
    ) -> Self:
        """Decides by one threshold, or one per class."""
        detected_NC = probabilities_NC >= threshold
        return cls(
            right_C=(detected_NC & positives_NC).sum(0),
            false_C=(detected_NC & ~positives_NC).sum(0),
            missed_C=(~detected_NC & positives_NC).sum(0),
        )

    def micro(self) -> tuple[float, float, float]:
        """Precision, recall and F1 of the cells of all classes together; NaN where undefined."""
        right, false, missed = (int(count.sum()) for count in self._counts())
        return (
            _share(right, right + false),
            _share(right, right + missed),
            _share(2 * right, 2 * right + false + missed),
        )

    def macro_f1(self) -> float:
        """Mean F1 of the classes with positives."""
        f1_C = self.classes()[2]
        defined = self.right_C + self.missed_C > 0
        return float(f1_C[defined].mean()) if defined.any() else math.nan

    def classes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Precision, recall and F1 of each class, float64 [C]; NaN where undefined."""
        right, false, missed = self._counts()
        return (
            _shares(right, right + false),
            _shares(right, right + missed),
            _shares(2 * right, 2 * right + false + missed),
        )

    def _counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.right_C, self.false_C, self.missed_C


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.divide(part, whole, out=np.full(len(part), math.nan), where=whole > 0)
    return shares


def read_class_thresholds(path: str, labels: Sequence[str]) -> np.ndarray:
    """Reads thresholds of classes, float64 [C], from a csv with label and threshold.

    Of that of tools.calibrate threshold_f1 is taken. A class without one has 0.5. Raises
    ConfigError on unknown classes.
    """
    key = "evaluate.class_thresholds"
    try:
        table = read_csv(Path(path).read_bytes(), path)
    except OSError as error:
        raise ConfigError(
            f"{key}={path} cannot be read: {error.strerror}: give a csv of label and threshold, as "
            "python -m tools.calibrate writes it"
        ) from error
    column = next((name for name in (THRESHOLD, F1) if name in table.columns), None)
    if column is None or "label" not in table.columns:
        raise ConfigError(f"{key}={path} needs the columns label and {THRESHOLD} or {F1}")
    places = {label: place for place, label in enumerate(labels)}
    thresholds_C = np.full(len(places), DEFAULT_THRESHOLD)
    for name, cell in zip(table.columns["label"], table.columns[column], strict=True):
        label = tidy_label(name)
        if label not in places:
            raise ConfigError(f"{key}={path}: {label} is no class of the predictions")
        if is_missing(cell):
            continue
        try:
            thresholds_C[places[label]] = float(cell)
        except ValueError as error:
            raise ConfigError(f"{key}={path}: {label} has no number: {cell!r}") from error
    return thresholds_C
