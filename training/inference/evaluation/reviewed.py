"""Scores against verdicts of people: only what was judged counts.

    scores = score_reviewed(predictions, decided_labels(current), thresholds=[0.5])
    print(scores.text())
    read_shown_scores(["reviews"])  # scores as shown with their verdicts, for a calibration

A cell, a window and a class, counts where a verdict that the annotators agree on holds for it, by
the rules of `datasets.corrections`: it is there or it is not. All other cells are left out, so
precision, recall and areas are of the judged cells, not of the recordings: a queue that shows high
scores alone makes them look better than they are.

Shapes: N windows, C classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from datasets.annotations import match_files
from datasets.corrections import judge
from datasets.reviews import ITEM, UNSURE, current_reviews, decided_labels, read_reviews
from storage.errors import ConfigError
from training.experiments.report import format_table
from training.inference.evaluation.labelled import LabelledScores
from training.inference.evaluation.thresholds import find_thresholds
from training.model.metrics import average_precisions, roc_areas

PREFIX = "p_"
THRESHOLD = 0.5  # of the table of classes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReviewedScores:
    """Judged cells: present_NC, judged_NC bool, scores_NC; notes for the user."""

    labels: tuple[str, ...]
    scores_NC: np.ndarray
    judged_NC: np.ndarray
    present_NC: np.ndarray
    notes: tuple[str, ...]

    def classes(self) -> pl.DataFrame:
        """One line per class with judged cells; what is not defined is null.

        n and n_present count cells; precision, recall and F1 are at 0.5, `best_threshold` is that
        of the best F1.
        """
        rows = []
        for place in np.flatnonzero(self.judged_NC.any(0)).tolist():
            scores, present = self._cells(place)
            area = float(roc_areas(present[:, None], scores[:, None])[0])
            precision = float(average_precisions(present[:, None], scores[:, None])[0])
            decided = decide(scores, present, THRESHOLD)
            best = find_thresholds(scores, present).f1
            row = (self.labels[place], len(scores), int(present.sum()), area, precision)
            rows.append((*row, *decided, best))
        names = ("roc_auc", "average_precision", "precision", "recall", "f1", "best_threshold")
        schema = {"label": pl.String, "n": pl.Int64, "n_present": pl.Int64}
        frame = pl.DataFrame(rows, schema=schema | dict.fromkeys(names, pl.Float64), orient="row")
        return frame.with_columns(pl.col(names).fill_nan(None))

    def text(self, thresholds: Sequence[float]) -> str:
        """Counts, mean scores over classes, decisions of all cells together, notes."""
        scores, present = self.scores_NC[self.judged_NC], self.present_NC[self.judged_NC]
        classes = self.classes()
        windows = int(self.judged_NC.any(1).sum())
        lines = [
            f"{len(scores):,} judged cells (a window and a class) of {windows:,} windows and "
            f"{len(classes):,} classes: {int(present.sum()):,} there, "
            f"{int((~present).sum()):,} not there"
        ]
        for name, title in (("roc_auc", "ROC-AUC"), ("average_precision", "average precision")):
            known = classes[name].drop_nulls()
            mean = f"{np.mean(known.to_numpy()):.4f}" if len(known) else "-"
            lines.append(f"{title}, mean of {len(known):,} classes: {mean}")
        cells = [
            (f"{limit:g}", *map(_decimals, decide(scores, present, limit))) for limit in thresholds
        ]
        if cells:
            lines += [
                "",
                format_table(("threshold", "precision", "recall", "F1"), cells, num_totals=0),
            ]
        return "\n".join([*lines, *([""] if self.notes else []), *self.notes])

    def _cells(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        judged_N = self.judged_NC[:, place]
        return self.scores_NC[judged_N, place], self.present_NC[judged_N, place]


def decide(scores: np.ndarray, present: np.ndarray, limit: float) -> tuple[float, float, float]:
    """Precision, recall and F1 of cells at a threshold; NaN where undefined."""
    found = scores >= limit
    right, num_found, num_there = (int(one.sum()) for one in (found & present, found, present))
    shares = ((right, num_found), (right, num_there), (2 * right, num_found + num_there))
    precision, recall, f1 = (part / whole if whole else math.nan for part, whole in shares)
    return precision, recall, f1


def _decimals(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def score_reviewed(predictions: pl.DataFrame, decided: pl.DataFrame) -> ReviewedScores:
    """Takes the judged cells of predictions: recording_id, start_s, end_s and `p_<label>`.

    Raises ConfigError where a column is missing, or no cell is judged.
    """
    labels = tuple(
        name.removeprefix(PREFIX) for name in predictions.columns if name.startswith(PREFIX)
    )
    missing = {"recording_id", "start_s", "end_s"} - set(predictions.columns)
    if missing or not labels:
        raise ConfigError(
            f"evaluate.predictions lack {', '.join(sorted(missing)) or 'p_<label>'}: reviews are "
            "compared with tables of tools.predict"
        )
    scores_NC = predictions.select(PREFIX + label for label in labels).to_numpy()
    given = decided["recording_id"].unique(maintain_order=True).to_list()
    recordings = predictions["recording_id"].cast(pl.String).unique(maintain_order=True)
    found = match_files(given, recordings.to_list())
    judged_NC, present_NC = _judged_cells(predictions, decided, labels, found)
    judged_NC &= ~np.isnan(scores_NC)
    if not judged_NC.any():
        raise ConfigError(
            f"evaluate.reviews: none of {len(decided):,} decided labels, of {len(given):,} "
            "recordings, is of a class and a window of the predictions"
        )
    return ReviewedScores(
        labels=labels,
        scores_NC=scores_NC,
        judged_NC=judged_NC,
        present_NC=present_NC & judged_NC,
        notes=tuple(_notes(decided, labels, len(given), len(found))),
    )


def _judged_cells(
    predictions: pl.DataFrame,
    decided: pl.DataFrame,
    labels: Sequence[str],
    found: Mapping[str, str],
) -> tuple[np.ndarray, np.ndarray]:
    """Cells that are judged, and those with a class that is there, bool [N, C] each.

    `found` has the recording of the predictions for each reviewed one.
    """
    judged_NC, present_NC = np.zeros((2, len(predictions), len(labels)), bool)
    column = {label: place for place, label in enumerate(labels)}
    numbered = predictions.select(
        "start_s", "end_s", pl.col("recording_id").cast(pl.String)
    ).with_row_index("number")
    windows = numbered.partition_by("recording_id", as_dict=True)
    on_classes = decided.filter(pl.col("label").is_in(list(labels)))
    by_recording = on_classes.partition_by("recording_id", as_dict=True)
    for recording_id, name in found.items():
        if (recording_id,) not in by_recording:
            continue
        own = windows[(name,)]
        start_s, end_s = own["start_s"].to_numpy(), own["end_s"].to_numpy()
        judged = judge(start_s, end_s, by_recording[(recording_id,)])
        places = np.asarray([column[label] for label in judged.labels])
        cells = np.ix_(own["number"].to_numpy(), places)
        judged_NC[cells] |= judged.present_KL | judged.absent_KL
        present_NC[cells] |= judged.present_KL
    return judged_NC, present_NC


def _notes(
    decided: pl.DataFrame, labels: Sequence[str], num_given: int, num_found: int
) -> list[str]:
    """Sentences on verdicts that do not count."""
    notes = []
    if num_found < num_given:
        notes.append(
            f"{num_given - num_found} of {num_given} reviewed recordings have no predictions"
        )
    others = sorted(set(decided["label"]) - set(labels))
    if others:
        notes.append(
            f"labels in the reviews that are no class here: {len(others)}, {others[0]}, ..."
        )
    return notes


def read_decided(paths: Sequence[str]) -> pl.DataFrame:
    """The labels that the annotators of reviews agree on; see `decided_labels`."""
    return decided_labels(current_reviews(read_reviews(*map(Path, paths))))


def read_shown_scores(paths: Sequence[str], model: str = "") -> LabelledScores:
    """Scores that were shown with their verdicts, a line per stretch of a recording.

    Cells without a verdict that the annotators agree on are NaN. Raises ConfigError where no score
    was shown, or those of several models and `model` does not name one.
    """
    current = current_reviews(read_reviews(*map(Path, paths)))
    shown = current.filter(pl.col("score").is_not_null() & (pl.col("verdict") != UNSURE))
    models = sorted(shown["model"].unique())
    key = f"calibrate.reviews={','.join(paths)}"
    if model and model not in models:
        raise ConfigError(
            f"{key}: no score of calibrate.model={model} was shown; there are "
            f"{', '.join(models) or 'none'}"
        )
    if not model and len(models) > 1:
        raise ConfigError(
            f"{key}: the scores are of {len(models)} models, {', '.join(models)}: name one as "
            "calibrate.model"
        )
    if model:
        shown = shown.filter(pl.col("model") == model)
    items = shown.group_by(ITEM, maintain_order=True).agg(pl.col("score").last())
    cells = items.join(
        decided_labels(current).select(*ITEM, "present"), on=ITEM, maintain_order="left"
    )
    if cells.is_empty():
        raise ConfigError(f"{key}: no verdict has a score that was shown with it")
    if not cells["score"].is_between(0, 1).all():
        raise ConfigError(f"{key}: a calibration is of scores from 0 to 1; others were shown")
    return _labelled(cells)


def _labelled(cells: pl.DataFrame) -> LabelledScores:
    """Cells as a matrix: a line per recording_id and start_s, NaN where there is none."""
    labels = tuple(sorted(set(cells["label"])))
    line = (
        cells.select(pl.struct("recording_id", "start_s").rank("dense") - 1).to_series().to_numpy()
    )
    number = {label: place for place, label in enumerate(labels)}
    place = np.asarray([number[label] for label in cells["label"]])
    scores_NC = np.full((int(line.max()) + 1, len(labels)), math.nan)
    positives_NC = np.zeros(scores_NC.shape, bool)
    scores_NC[line, place] = cells["score"].to_numpy()
    positives_NC[line, place] = cells["present"].to_numpy()
    recording_no = np.zeros(len(scores_NC), np.int64)
    recording_no[line] = cells["recording_id"].rank("dense").to_numpy().astype(np.int64) - 1
    return LabelledScores(
        scores_NC=scores_NC, positives_NC=positives_NC, recording_no_N=recording_no, labels=labels
    )
