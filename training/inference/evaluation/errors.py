"""The worst errors of an evaluation: clear detections of what is not there, and calls missed.

Shapes: N windows, C classes.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from training.inference.evaluation.evaluate import TARGET, Evaluation

FALSE, MISSED = "false positive", "missed"
SCHEMA = {
    "kind": pl.String,
    "recording_id": pl.String,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "label": pl.String,
    "score": pl.Float64,
    "labels": pl.String,
}


def worst_errors(evaluation: Evaluation, num: int) -> pl.DataFrame:
    """The `num` highest false positives and lowest true positives, the worst first.

    Of windows of one recording with one label the worst alone is taken. `labels` are those that the
    window has, separated by `;`.
    """
    rows = [*_worst(evaluation, num, FALSE), *_worst(evaluation, num, MISSED)]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _worst(evaluation: Evaluation, num: int, kind: str) -> Iterator[tuple[object, ...]]:
    windows, labels = evaluation.windows, evaluation.classes.labels
    scores_NC, positives_NC = evaluation.probabilities_NC, evaluation.positives_NC
    chosen_NC = positives_NC if kind == MISSED else ~positives_NC
    rows, places = np.nonzero(chosen_NC)
    values = scores_NC[rows, places]
    order = np.argsort(values if kind == MISSED else -values, kind="stable")
    seen: set[tuple[str, int]] = set()
    for at in order:
        if len(seen) == num:
            return
        window = windows.row(int(rows[at]), named=True)
        key = (str(window["recording_id"]), int(places[at]))
        if key not in seen:
            seen.add(key)
            yield (
                kind,
                window["recording_id"],
                window.get("start_s"),
                window.get("end_s"),
                labels[places[at]],
                float(values[at]),
                ";".join(window[TARGET]),
            )
