"""Platt scaling per class, and thresholds, from predictions with known labels.

    table = fit_calibration(oof, shrinkage=20)
    write_calibration(table, Path("calibration.csv"))
    probabilities = read_calibration(Path("calibration.csv")).of(labels).apply(probabilities)

A class's probability p becomes sigmoid(a logit(p) + b). A pooled fit over all cells of all classes
gives a0, b0; the fit of each class is drawn towards it (`platt`). A class without a positive, or
without a negative, has the pooled fit.

Shapes: N slices, W windows, C classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import polars as pl

from storage.errors import ConfigError
from storage.source.cells import is_missing, tidy_label
from storage.source.csv_text import read_csv
from training.inference.evaluation.labelled import LabelledScores
from training.inference.evaluation.platt import Platt, fit_platt, logits, sigmoid
from training.inference.evaluation.thresholds import (
    F1,
    P90,
    P95,
    THRESHOLDS,
    ClassThresholds,
    find_thresholds,
)

COLUMNS = ("label", "a", "b", *THRESHOLDS, "n", "n_positive")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibrationTable:
    """One entry per class; thresholds are scores as predicted, before calibration."""

    labels: tuple[str, ...]
    platt: tuple[Platt, ...]
    thresholds: tuple[ClassThresholds, ...]
    num: tuple[int, ...]
    num_positive: tuple[int, ...]

    def of(self, labels: Sequence[str]) -> Self:
        """The entries of classes in their order; ConfigError where one is missing."""
        places = {label: place for place, label in enumerate(self.labels)}
        missing = [label for label in labels if label not in places]
        if missing:
            more = ", ..." if len(missing) > 5 else ""
            raise ConfigError(
                f"the calibration lacks {len(missing)} of {len(labels)} classes: "
                f"{', '.join(missing[:5])}{more}; make it from predictions of the same model"
            )
        order = [places[label] for label in labels]
        columns = {
            column.name: tuple(getattr(self, column.name)[place] for place in order)
            for column in fields(self)
        }
        return type(self)(**columns)

    def apply(self, probabilities_WC: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float32 [W, C], of the classes of this table."""
        scale = np.array(self.platt).reshape(-1, 2)
        shifted_WC = scale[:, 0] * logits(probabilities_WC) + scale[:, 1]
        return sigmoid(shifted_WC).astype(np.float32)

    def threshold_of(self, column: str, *, calibrated: bool) -> dict[str, float]:
        """Thresholds by label, of a column such as threshold_f1; classes without one are left out.

        `calibrated`: for scores that `apply` has changed.
        """
        found = {}
        for label, platt, row in zip(self.labels, self.platt, self.thresholds, strict=True):
            value = row[THRESHOLDS.index(column)]
            if not math.isnan(value):
                found[label] = float(platt.apply(np.array(value))) if calibrated else value
        return found

    def frame(self, chosen: str = F1) -> pl.DataFrame:
        """The table as it is written: COLUMNS, and `threshold`, the chosen one of THRESHOLDS.

        What there is not is null.
        """
        rows = zip(
            self.labels, self.platt, self.thresholds, self.num, self.num_positive, strict=True
        )
        cells = [
            (label, *platt, *limits, num, positive) for label, platt, limits, num, positive in rows
        ]
        floats = dict.fromkeys(("a", "b", *THRESHOLDS), pl.Float64)
        schema = {name: floats.get(name, pl.Int64) for name in COLUMNS} | {"label": pl.String}
        frame = pl.DataFrame(cells, schema=schema, orient="row")
        frame = frame.with_columns(pl.col(THRESHOLDS).fill_nan(None))
        return frame.insert_column(3, frame[chosen].alias("threshold"))


class _Scored(NamedTuple):
    """The slices of a class in which it is not NaN."""

    x_N: np.ndarray
    positive_N: np.ndarray


def fit_calibration(
    scores_NC: np.ndarray, positives_NC: np.ndarray, labels: Sequence[str], *, shrinkage: float
) -> CalibrationTable:
    """Fits all classes; `shrinkage` is k above, in slices. NaN cells are left out.

    Raises ConfigError where no class has both slices with and without it.
    """
    classes = []
    for place in range(len(labels)):
        known = ~np.isnan(scores_NC[:, place])
        classes.append(_Scored(logits(scores_NC[known, place]), positives_NC[known, place]))
    counts = [(len(one.x_N), int(one.positive_N.sum())) for one in classes]
    usable = [0 < positive < num for num, positive in counts]
    if not any(usable):
        raise ConfigError("calibration needs a class with slices that have it and that do not")
    pooled = fit_platt(classes, Platt(1.0, 0.0), 1.0)
    platt = [
        fit_platt([one], pooled, shrinkage) if fits else pooled
        for one, fits in zip(classes, usable, strict=True)
    ]
    thresholds = []
    for place, one in enumerate(classes):
        scores = scores_NC[:, place]
        thresholds.append(find_thresholds(scores[~np.isnan(scores)], one.positive_N))
    return CalibrationTable(
        labels=tuple(labels),
        platt=tuple(platt),
        thresholds=tuple(thresholds),
        num=tuple(num for num, _ in counts),
        num_positive=tuple(positive for _, positive in counts),
    )


def write_calibration(table: CalibrationTable, path: Path, chosen: str = F1) -> None:
    """Writes the csv; its column `threshold` is the chosen one of THRESHOLDS."""
    table.frame(chosen).write_csv(path)


def read_calibration(path: Path) -> CalibrationTable:
    """Reads what `write_calibration` wrote; raises ConfigError on anything else."""
    try:
        columns = read_csv(path.read_bytes(), str(path)).columns
    except OSError as error:
        raise ConfigError(
            f"calibration: {path} cannot be read: {error.strerror}: python -m tools.calibrate "
            "writes it"
        ) from error
    lacking = [name for name in COLUMNS if name not in columns]
    if lacking:
        raise ConfigError(
            f"calibration: {path} lacks the columns {', '.join(lacking)}; tools.calibrate makes it"
        )
    try:
        numbers = {
            name: [math.nan if is_missing(cell) else float(cell) for cell in columns[name]]
            for name in COLUMNS
            if name != "label"
        }
        labels = tuple(tidy_label(cell) or "" for cell in columns["label"])
        if not all(map(math.isfinite, numbers["a"] + numbers["b"])) or "" in labels:
            raise ValueError("a row lacks its label, a or b")
        return CalibrationTable(
            labels=labels,
            platt=tuple(map(Platt, numbers["a"], numbers["b"])),
            thresholds=tuple(map(ClassThresholds, numbers[P90], numbers[P95], numbers[F1])),
            num=tuple(map(int, numbers["n"])),
            num_positive=tuple(map(int, numbers["n_positive"])),
        )
    except ValueError as error:
        raise ConfigError(f"calibration: {path} is damaged: {error}") from error


def cross_calibrated(given: LabelledScores, shrinkage: float) -> np.ndarray | None:
    """Calibrated scores [N, C], those of every other recording by the fit of the rest.

    None where one of the halves cannot be fitted.
    """
    after_NC = np.empty(given.scores_NC.shape, np.float32)
    for half in (0, 1):
        held_N = given.recording_no_N % 2 == half
        try:
            table = fit_calibration(
                given.scores_NC[~held_N],
                given.positives_NC[~held_N],
                given.labels,
                shrinkage=shrinkage,
            )
        except ConfigError:  # no class with both kinds of slices
            return None
        after_NC[held_N] = table.apply(given.scores_NC[held_N])
    return after_NC
