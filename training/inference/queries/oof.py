"""Columns that say how a prediction compares with the labels: `oof` and `oof_recordings`.

label         the primary label
predicted     the class with the highest probability, and its `score`
label_score   probability of the primary label; loss: its negative logarithm
other         the class with the highest probability that is no label, and its `other_score`
margin        difference of the two highest probabilities
entropy       of the probabilities brought to sum one, nats
"""

import polars as pl

from storage.errors import ConfigError

PREFIX = "p_"
LEAST = 1e-15  # of a probability in a logarithm
ADDED = (
    *("label", "predicted", "score", "label_score", "loss"),
    *("other", "other_score", "margin", "entropy"),
)
TARGET = "target"


def described(predictions: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """Adds the columns to predictions with `target` and `p_<label>`, before these.

    Raises ConfigError, with `name`, where there are no such columns.
    """
    columns = predictions.collect_schema().names()
    scores = [column for column in columns if column.startswith(PREFIX)]
    if not scores or TARGET not in columns:
        raise ConfigError(f"{name} has no out-of-fold predictions: target and p_<label>")
    labels = pl.Series([column.removeprefix(PREFIX) for column in scores])
    kept = [column for column in columns if column not in {*scores, *ADDED}]
    frame = predictions.with_columns(
        _label=pl.col(TARGET).list.first(), _all=pl.concat_list(scores).cast(pl.List(pl.Float64))
    )
    foreign = [
        pl.when(pl.col(TARGET).list.contains(label)).then(-1.0).otherwise(pl.col(column))
        for label, column in zip(labels, scores, strict=True)
    ]
    own = [
        pl.when(pl.col("_label") == label).then(pl.col(column))
        for label, column in zip(labels, scores, strict=True)
    ]
    frame = frame.with_columns(
        _foreign=pl.concat_list(foreign), label_score=pl.coalesce(*own).cast(pl.Float64)
    )
    top = pl.col("_all").list.sort(descending=True)
    share = pl.element() / pl.element().sum()
    added = {
        "label": pl.col("_label"),
        "predicted": _named(pl.col("_all").list.arg_max(), labels),
        "score": pl.col("_all").list.max(),
        "label_score": pl.col("label_score"),
        "loss": -pl.col("label_score").clip(LEAST).log(),
        "other": _named(pl.col("_foreign").list.arg_max(), labels),
        "other_score": pl.col("_foreign").list.max(),
        "margin": top.list.get(0) - top.list.get(1, null_on_oob=True),
        "entropy": pl.col("_all").list.eval(-(share * share.clip(LEAST).log())).list.sum(),
    }
    return frame.select(*kept, *(added[name].alias(name) for name in ADDED), *scores)


def _named(number: pl.Expr, labels: pl.Series) -> pl.Expr:
    """The label of each class number."""
    numbers = pl.Series(range(len(labels)), dtype=pl.UInt32)
    return number.replace_strict(numbers, labels, default=None, return_dtype=pl.String)
