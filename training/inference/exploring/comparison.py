"""Two experiments on the same slices: scores of each, and who is right, by class."""

from typing import Any

import polars as pl

from training.inference.exploring.scores import OofScores, outcomes

OUTCOMES = ("both", "first", "second", "neither")


def second_columns(first: OofScores, second: OofScores) -> pl.DataFrame:
    """Columns of the second experiment, `_2` after their name, and `outcome`; a line per slice."""
    names = ("predicted", "score", "label_score", "loss", "margin", "entropy")
    columns = [second.columns[name].alias(f"{name}_2") for name in names]
    return pl.DataFrame([*columns, outcomes(first.columns, second.columns)])


def compare(first: OofScores, second: OofScores) -> dict[str, Any]:
    """Accuracy, mean loss and counts of outcomes, over slices that both have predicted."""
    table = pl.DataFrame(
        {
            "label": first.columns["label"],
            "first": first.columns["predicted"] == first.columns["label"],
            "second": second.columns["predicted"] == second.columns["label"],
            "first_loss": first.columns["loss"],
            "second_loss": second.columns["loss"],
            "outcome": outcomes(first.columns, second.columns),
        }
    ).filter(pl.col("outcome").is_not_null())
    classes = table.group_by("label").agg(
        slices=pl.len(),
        first_accuracy=pl.col("first").mean(),
        second_accuracy=pl.col("second").mean(),
        first_loss=pl.col("first_loss").mean(),
        second_loss=pl.col("second_loss").mean(),
    )
    return {
        "slices": len(table),
        "outcomes": {name: int((table["outcome"] == name).sum()) for name in OUTCOMES},
        "first_scores": _scores(table, "first"),
        "second_scores": _scores(table, "second"),
        "classes": classes.sort("label").to_dicts(),
    }


def _scores(table: pl.DataFrame, name: str) -> dict[str, Any]:
    return {"accuracy": table[name].mean(), "mean_loss": table[f"{name}_loss"].mean()}
