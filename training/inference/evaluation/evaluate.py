"""Scores of predictions against annotations, by windows, recordings, sites and taxa.

    evaluation = evaluate(predictions, annotations, EvaluateConfig())
    print(report_text(evaluation))

The scores are those of training (`METRICS`). Windows without a label count as negatives of all
classes; KL and accuracy are of windows with a label. Classes that a model lacks (NaN) are left out.

Shapes: N windows, C classes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from storage.errors import ConfigError
from storage.source.recorder_names import SITE, with_recorder_columns
from training.experiments.report import Held
from training.inference.class_table import read_class_table
from training.inference.evaluation.annotations import Annotations
from training.inference.evaluation.bootstrap import (
    ClassDraws,
    Interval,
    Scored,
    bootstrap_classes,
    macro_interval,
)
from training.inference.evaluation.config import GEOMETRIC, MAX, EvaluateConfig
from training.inference.evaluation.decisions import (
    DEFAULT_THRESHOLD,
    Decisions,
    read_class_thresholds,
)
from training.inference.evaluation.labelled import target_cells
from training.inference.evaluation.matching import match_annotations
from training.inference.predictions import ClassTable
from training.model.metrics import (
    DISTRIBUTION_TOLERANCE,
    LEAST_PROBABILITY,
    METRICS,
    Scores,
)

PREFIX = "p_"
TARGET = "target"
WINDOWS, RECORDINGS = "windows", "recordings"
PER_CLASS = "per class"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Level:
    """Scores of windows or recordings that belong together."""

    name: str
    num: int
    num_classes: int  # with positives
    scores: Scores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """Scores of an evaluation, with what they were computed from.

    `windows`: recording_id, start_s, end_s, target, p_<label>. `thresholds` by their names, such as
    0.5 or `per class`; `thresholds_C` are those of the classes.
    """

    windows: pl.DataFrame
    recordings: pl.DataFrame
    classes: ClassTable
    levels: tuple[Level, ...]
    intervals: dict[str, Interval]
    thresholds: dict[str, Decisions]
    thresholds_C: np.ndarray
    draws: ClassDraws
    notes: tuple[str, ...]

    @property
    def positives_NC(self) -> np.ndarray:
        """True where a window has the class, bool [N, C]."""
        return target_cells(self.windows[TARGET], self.classes.labels)

    @property
    def probabilities_NC(self) -> np.ndarray:
        """Probabilities of the windows, float [N, C]."""
        return self.windows.select(f"{PREFIX}{label}" for label in self.classes.labels).to_numpy()

    def recording_positives(self) -> np.ndarray:
        """True where a recording has the class, bool [R, C]."""
        return target_cells(self.recordings[TARGET], self.classes.labels)


def evaluate(
    predictions: pl.DataFrame, annotations: Annotations | None, config: EvaluateConfig
) -> Evaluation:
    """Scores predictions with the columns recording_id, start_s, end_s and `p_<label>`.

    Without annotations their own column `target` counts, as oof.parquet has it. Raises ConfigError
    where columns are missing, or nothing fits.
    """
    labels = [name.removeprefix(PREFIX) for name in predictions.columns if name.startswith(PREFIX)]
    classes = read_class_table(config.taxonomy, labels)
    windows, notes = _labelled(predictions, annotations, classes, config)
    windows, lacking = _without_masked(windows)
    if lacking:
        notes.append(f"classes without predictions: {len(lacking)}, {', '.join(lacking[:10])}")
        known = tuple(label for label in labels if label not in lacking)
        classes = ClassTable(labels=known, names=classes.names)
    recordings = _pooled(windows, config.pool)
    held = Held.of(windows)
    thresholds, thresholds_C = _thresholds(classes, config)
    recording_no_N = windows["recording_id"].rank("dense").to_numpy().astype(np.int64) - 1
    scored = Scored(held.truth.positives_RC, held.probabilities_NC, recording_no_N)
    draws = bootstrap_classes(scored, num_draws=config.bootstrap, seed=config.seed)
    return Evaluation(
        windows=windows,
        recordings=recordings,
        classes=classes,
        levels=tuple(_levels(windows, recordings, classes, config)),
        intervals={
            "roc_auc": macro_interval(draws.roc_auc),
            "cmap": macro_interval(draws.average_precision),
        },
        thresholds={
            name: Decisions.at(scored.positives_NC, scored.probabilities_NC, limit)
            for name, limit in thresholds.items()
        },
        thresholds_C=thresholds_C,
        draws=draws,
        notes=tuple(notes),
    )


def _thresholds(
    classes: ClassTable, config: EvaluateConfig
) -> tuple[dict[str, float | np.ndarray], np.ndarray]:
    """Thresholds by their names, and those of the classes [C]."""
    named: dict[str, float | np.ndarray] = {f"{one:g}": one for one in config.thresholds}
    if not config.class_thresholds:
        return named, np.full(len(classes.labels), DEFAULT_THRESHOLD)
    thresholds_C = read_class_thresholds(config.class_thresholds, classes.labels)
    return {**named, PER_CLASS: thresholds_C}, thresholds_C


def _labelled(
    predictions: pl.DataFrame,
    annotations: Annotations | None,
    classes: ClassTable,
    config: EvaluateConfig,
) -> tuple[pl.DataFrame, list[str]]:
    """The windows that something is known of, with `target`, and notes on the others."""
    _check_columns(predictions, classes.labels, with_times=annotations is not None)
    if annotations is not None:
        matched = match_annotations(predictions, annotations, classes, config.min_overlap_s)
        return matched.windows, list(matched.notes)
    target = pl.col(TARGET).list.filter(pl.element().is_in(list(classes.labels)))
    return predictions.with_columns(target), []


def _check_columns(frame: pl.DataFrame, labels: Sequence[str], *, with_times: bool) -> None:
    """Raises ConfigError where a column is missing or of another type, or there is no row."""
    number = (pl.Float64, pl.Float32)
    wanted: dict[str, Any] = {"recording_id": (pl.String,)}
    wanted |= dict.fromkeys(("start_s", "end_s"), number) if with_times else {}
    wanted |= {} if with_times else {TARGET: (pl.List(pl.String),)}
    wanted |= {f"{PREFIX}{label}": number for label in labels}
    wrong = [name for name, kinds in wanted.items() if frame.schema.get(name) not in kinds]
    if wrong or not labels:
        missing = ", ".join(wrong[:5]) or f"{PREFIX}<label>"
        raise ConfigError(
            f"evaluate.predictions lack, or have with another type, the columns {missing}: they "
            "are tables of tools.predict"
            + ("" if with_times else ", or of OOF predictions where no annotations are given")
        )
    if not len(frame):
        raise ConfigError("evaluate.predictions have no row")


def _without_masked(windows: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Windows without the classes that no model has, and the labels of these.

    Raises ConfigError on a class with some numbers only.
    """
    columns = [name for name in windows.columns if name.startswith(PREFIX)]
    counts = windows.select(pl.col(columns).cast(pl.Float32).fill_null(math.nan).is_nan().sum())
    masked = [name for name, count in counts.row(0, named=True).items() if count == len(windows)]
    partly = [name for name, count in counts.row(0, named=True).items() if 0 < count < len(windows)]
    if partly:
        raise ConfigError(
            f"evaluate.predictions: {partly[0]} has numbers in some rows and NaN in others: "
            "evaluate tables of one model at a time"
        )
    if len(masked) == len(columns):
        raise ConfigError("evaluate.predictions have no number in any class")
    lacking = [name.removeprefix(PREFIX) for name in masked]
    target = pl.col(TARGET).list.filter(~pl.element().is_in(lacking))
    return windows.drop(masked).with_columns(target), lacking


def _pooled(windows: pl.DataFrame, pool: str) -> pl.DataFrame:
    """One row per recording: its windows' probabilities as `pool` says, and all their labels."""
    counts = (
        windows.explode(TARGET)
        .group_by("recording_id", TARGET, maintain_order=True)
        .len()
        .drop_nulls(TARGET)
        .sort("len", descending=True, maintain_order=True)
        .group_by("recording_id", maintain_order=True)
        .agg(TARGET)
    )
    recordings = _pooled_probabilities(windows, pool)
    joined = recordings.join(counts, on="recording_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col(TARGET).fill_null([]))


def _pooled_probabilities(windows: pl.DataFrame, pool: str) -> pl.DataFrame:
    """recording_id and `p_<label>`, one row per recording, in the order of their first windows."""
    column = pl.col(f"^{PREFIX}.*$")
    logarithm = column.cast(pl.Float64).clip(lower_bound=LEAST_PROBABILITY).log()
    pooled = {MAX: column.max(), GEOMETRIC: logarithm.mean().exp()}.get(pool, column.mean())
    recordings = windows.group_by("recording_id", maintain_order=True).agg(pooled)
    total = pl.sum_horizontal(column)
    if (
        pool == GEOMETRIC
        and windows.select((total - 1).abs().max()).item() < DISTRIBUTION_TOLERANCE
    ):
        recordings = recordings.with_columns(column / total)  # of a softmax, as in training
    return recordings


def _levels(
    windows: pl.DataFrame, recordings: pl.DataFrame, classes: ClassTable, config: EvaluateConfig
) -> Iterator[Level]:
    """Windows and recordings; then the windows of each site; then those of each taxon's classes."""
    yield _level(WINDOWS, windows, config)
    yield _level(RECORDINGS, recordings, config)
    if SITE not in windows.columns:
        named = with_recorder_columns(windows.select(filename="recording_id"))
        sites = named[SITE] if SITE in named.columns else pl.Series([None] * len(windows))
        windows = windows.with_columns(sites.alias(SITE))
    for (site,), part in windows.drop_nulls(SITE).sort(SITE).group_by(SITE, maintain_order=True):
        yield _level(f"site {site}", part, config)
    labels_of: dict[str, list[str]] = {}
    for label in classes.labels:
        if taxon := classes.names.get(label, {}).get(config.taxon):
            labels_of.setdefault(taxon, []).append(label)
    for taxon, labels in sorted(labels_of.items()):
        yield _taxon_level(taxon, labels, windows)


def _level(name: str, frame: pl.DataFrame, config: EvaluateConfig) -> Level:
    held = Held.of(frame, config.secondary_weight)
    return Level(
        name=name,
        num=len(frame),
        num_classes=int(held.truth.positives_RC.any(0).sum()),
        scores=held.truth.score(held.probabilities_NC, np.arange(len(frame))),
    )


def _taxon_level(name: str, labels: Sequence[str], windows: pl.DataFrame) -> Level:
    """Scores of some classes over all windows; those that need a label compare all classes."""
    held = Held.of(windows)
    places = [place for place, label in enumerate(held.labels.names) if label in labels]
    slices = held.truth.slices(held.probabilities_NC, np.arange(len(windows)))
    slices = slices._replace(
        positives_NC=slices.positives_NC[:, places],
        probabilities_NC=slices.probabilities_NC[:, places],
    )
    scores = {
        key: math.nan if metric.needs_label else metric.compute(slices)
        for key, metric in METRICS.items()
    }
    num_classes = int(slices.positives_NC.any(0).sum())
    return Level(name=name, num=len(windows), num_classes=num_classes, scores=scores)
