"""Evaluations as text within 80 columns, and as tables for programs.

    print(report_text(evaluation))
    class_table(evaluation).write_csv("classes.csv")

Shapes: C classes.
"""

import json
import math
from typing import Any

import numpy as np
import polars as pl

from training.experiments.report import format_table
from training.inference.evaluation.bootstrap import interval
from training.inference.evaluation.decisions import Decisions
from training.inference.evaluation.evaluate import Evaluation, Level
from training.inference.evaluation.thresholds import find_thresholds
from training.model.metrics import (
    METRICS,
    TITLES,
    average_precisions,
    roc_areas,
    score_cells,
)

MAX_PARTS = 12  # lines of sites and taxa in the printed table
NAME_WIDTH = 20


def report_text(evaluation: Evaluation) -> str:
    """The scores, intervals and decisions, then the notes."""
    overall, parts = evaluation.levels[:2], evaluation.levels[2:]
    lines = [_level_cells(level) for level in (*overall, *parts[:MAX_PARTS])]
    header = ("", "number", "classes", *TITLES)
    text = [format_table(header, lines, num_totals=len(lines) - len(overall))]
    if len(parts) > MAX_PARTS:
        text.append(f"and {len(parts) - MAX_PARTS} more, which scores.json has")
    text += [
        f"{METRICS[key].title} of windows, 95 % of resampled recordings: {low:.4f} to {high:.4f}"
        for key, (low, high) in evaluation.intervals.items()
        if not math.isnan(low)
    ]
    cells = [
        (name, *map(_decimals, (*decisions.micro(), decisions.macro_f1())))
        for name, decisions in evaluation.thresholds.items()
    ]
    if cells:
        columns = ("threshold", "precision", "recall", "F1", "macro F1")
        text += ["", format_table(columns, cells, num_totals=0)]
    return "\n".join([*text, *([""] if evaluation.notes else []), *evaluation.notes])


def _level_cells(level: Level) -> tuple[str, ...]:
    name = level.name
    short = name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 3]}..."
    return (short, str(level.num), str(level.num_classes), *score_cells(level.scores))


def _decimals(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def class_table(evaluation: Evaluation) -> pl.DataFrame:
    """One line per class; what is not defined is null.

    `n_windows` and `n_recordings` count those with the class. ROC-AUC and average precision have
    95 % intervals over recordings. Precision, recall and F1 are at `threshold`, `best_threshold` is
    that of the best F1.
    """
    labels = evaluation.classes.labels
    positives_NC, scores_NC = evaluation.positives_NC, evaluation.probabilities_NC
    decisions = Decisions.at(positives_NC, scores_NC, evaluation.thresholds_C)
    precision_C, recall_C, f1_C = decisions.classes()
    areas, precisions = evaluation.draws
    area_C2 = np.array([interval(areas[:, place]) for place in range(len(labels))])
    ap_C2 = np.array([interval(precisions[:, place]) for place in range(len(labels))])
    columns = {
        "label": labels,
        "common_name": [
            evaluation.classes.names.get(label, {}).get("common_name") for label in labels
        ],
        "n_windows": positives_NC.sum(0),
        "n_recordings": evaluation.recording_positives().sum(0),
        "roc_auc": roc_areas(positives_NC, scores_NC),
        "roc_auc_low": area_C2[:, 0],
        "roc_auc_high": area_C2[:, 1],
        "average_precision": average_precisions(positives_NC, scores_NC),
        "average_precision_low": ap_C2[:, 0],
        "average_precision_high": ap_C2[:, 1],
        "threshold": evaluation.thresholds_C,
        "precision": precision_C,
        "recall": recall_C,
        "f1": f1_C,
        "false_positives": decisions.false_C,
        "best_threshold": [
            find_thresholds(scores_NC[:, place], positives_NC[:, place]).f1
            for place in range(len(labels))
        ],
    }
    table = pl.DataFrame(columns, schema_overrides={"common_name": pl.String})
    return table.with_columns(pl.col(pl.Float64).fill_nan(None))


def scores_json(evaluation: Evaluation) -> str:
    """All levels, intervals and decisions; a score that is not defined is null."""
    values: dict[str, Any] = {
        "levels": [
            {"name": level.name, "number": level.num, "classes": level.num_classes, **level.scores}
            for level in evaluation.levels
        ],
        "intervals": {key: list(ends) for key, ends in evaluation.intervals.items()},
        "thresholds": {
            name: {
                **dict(zip(("precision", "recall", "f1"), decisions.micro(), strict=True)),
                "macro_f1": decisions.macro_f1(),
            }
            for name, decisions in evaluation.thresholds.items()
        },
        "notes": evaluation.notes,
    }
    plain = json.loads(json.dumps(values), parse_constant=lambda _: None)  # NaN
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"
