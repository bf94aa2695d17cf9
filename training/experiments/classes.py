"""Scores of each class, from the predictions of held-out recordings.

    oof = pl.read_parquet(preds / "oof_recordings.parquet")
    table = score_classes(oof, class_names(recordings))
    table.write_csv(preds / "classes.csv")
    print(describe_classes(table))

Shapes: N recordings, C classes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from datasets.labels import taxonomy_names
from training.experiments.report import Held, format_table
from training.model.metrics import average_precisions, f1_scores, roc_areas

COMMON_NAME = "common_name"
NUM_SHOWN = 10  # best and worst classes, and names in a sentence
WIDTH = 80  # columns of a terminal
SCORES = {"roc_auc": "ROC-AUC", "average_precision": "AP", "f1": "F1"}
SCHEMA = {
    "label": pl.String,
    "common_name": pl.String,
    "n": pl.Int64,
    "n_any": pl.Int64,
    **dict.fromkeys(SCORES, pl.Float64),
    "confused_with": pl.String,
    "n_confused": pl.Int64,
}


def class_names(recordings: pl.DataFrame) -> dict[str, str]:
    """Returns the common name of each primary label, as far as the recordings give them."""
    known = taxonomy_names(recordings)
    return {label: of[COMMON_NAME] for label, of in known.items() if COMMON_NAME in of}


def shown_names(names: Sequence[str]) -> str:
    """Lists the first names, and counts the others."""
    more = f" and {len(names) - NUM_SHOWN} more" if len(names) > NUM_SHOWN else ""
    return ", ".join(names[:NUM_SHOWN]) + more


def score_classes(frame: pl.DataFrame, names: Mapping[str, str]) -> pl.DataFrame:
    """One line per class with the columns of SCHEMA; a score that is not defined is null.

    `n` counts recordings by primary label, `n_any` by any label. ROC-AUC and average precision
    take all labels; F1 and confusions the primary label and the most probable class.
    `confused_with`: the class that most of its recordings are taken for, other than itself.
    """
    held = Held.of(frame)
    confused_CC = count_confusions(held)
    np.fill_diagonal(confused_CC, 0)
    worst_C, counts_C = confused_CC.argmax(1), confused_CC.max(1)
    labels = held.labels.names
    positives_NC, primary_N = held.truth.positives_RC, held.truth.primary_R
    columns = {
        "label": labels,
        "common_name": [names.get(label) for label in labels],
        "n": np.bincount(primary_N, minlength=len(labels)),
        "n_any": positives_NC.sum(0),
        "roc_auc": roc_areas(positives_NC, held.probabilities_NC),
        "average_precision": average_precisions(positives_NC, held.probabilities_NC),
        "f1": f1_scores(primary_N, held.probabilities_NC),
        "confused_with": [
            labels[worst] if count else None for worst, count in zip(worst_C, counts_C, strict=True)
        ],
        "n_confused": counts_C,
    }
    return pl.DataFrame(columns, schema_overrides=SCHEMA).with_columns(
        pl.col(list(SCORES)).fill_nan(None)
    )


def count_confusions(held: Held) -> np.ndarray:
    """Counts recordings of each class, a row each, by the class that they are taken for: [C, C]."""
    predicted_N, count = held.probabilities_NC.argmax(1), len(held.labels)
    cells = np.bincount(held.truth.primary_R * count + predicted_N, minlength=count**2)
    return cells.reshape(count, count)


def ranked_classes(table: pl.DataFrame) -> pl.DataFrame:
    """Classes with an average precision, the best first."""
    scored = table.drop_nulls("average_precision")
    return scored.sort("average_precision", "roc_auc", descending=True, nulls_last=True)


def describe_classes(table: pl.DataFrame) -> str:
    """Formats the ten best and the ten worst classes, and counts those without a score."""
    ranked = ranked_classes(table)
    text = [f"scores of {len(ranked)} classes, by recording, best average precision first"]
    best, worst = ranked[:NUM_SHOWN], ranked[NUM_SHOWN:].tail(NUM_SHOWN)
    if len(best):
        lines = _lines(pl.concat([best, worst]), table)
        header = ("class", "n", *SCORES.values(), "most confused with")
        text.append(format_table(header, lines, num_totals=len(worst)))
    unscored = table.filter(pl.col("average_precision").is_null())["label"].to_list()
    if unscored:
        text.append(f"without a held-out recording: {len(unscored)}, {shown_names(unscored)}")
    return "\n".join(text)


def _lines(shown: pl.DataFrame, table: pl.DataFrame) -> list[tuple[str, ...]]:
    """Cells of the classes shown, with names cut so that the lines fit a terminal."""
    named = table.select(pl.coalesce("common_name", "label")).to_series()
    names = dict(zip(table["label"], named, strict=True))
    numbers = "  ".join(
        [str(max(shown["n"].to_list())), *(f"{name:5}" for name in SCORES.values()), ""]
    )
    most_confused = f"  ({max(shown['n_confused'].to_list())})"
    room = (WIDTH - len(numbers) - len(most_confused) - 2) // 2
    lines = []
    for row in shown.iter_rows(named=True):
        scores = ("-" if row[name] is None else f"{row[name]:.3f}" for name in SCORES)
        other = _short(names.get(row["confused_with"], ""), room)
        confused = f"{other} ({row['n_confused']})" if other else ""
        lines.append((_short(names[row["label"]], room), str(row["n"]), *scores, confused))
    return lines


def _short(name: str, room: int) -> str:
    return name if len(name) <= room else f"{name[: room - 3]}..."
