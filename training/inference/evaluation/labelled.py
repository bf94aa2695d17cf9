"""Reads predictions that have their labels with them.

Shapes: N slices, C classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from storage.errors import ConfigError


def read_labelled(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Scores [N, C], positives bool [N, C] and labels of a table with `target` and `p_<label>`.

    Such are oof.parquet of an experiment and evaluated.parquet of tools.evaluate.
    """
    try:
        frame = pl.read_parquet(path)
    except (OSError, PolarsError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(f"calibrate: {path} cannot be read as Parquet: {reason}") from error
    classes = [name for name in frame.columns if name.startswith("p_")]
    if not classes or "target" not in frame.columns or not len(frame):
        raise ConfigError(
            f"calibrate: {path} needs rows with the columns target and p_<label>, as oof.parquet "
            "of an experiment and evaluated.parquet of tools.evaluate have"
        )
    labels = tuple(name.removeprefix("p_") for name in classes)
    return frame.select(classes).to_numpy(), target_cells(frame["target"], labels), labels


def target_cells(target: pl.Series, labels: Sequence[str]) -> np.ndarray:
    """True where a row's list of labels has the class, bool [N, C]; other labels are left out."""
    numbers = {label: number for number, label in enumerate(labels)}
    exploded = pl.DataFrame({"row": np.arange(len(target)), "label": target}).explode("label")
    code = pl.col("label").replace_strict(numbers, default=None, return_dtype=pl.Int64)
    cells = exploded.with_columns(code).drop_nulls()
    positives_NC = np.zeros((len(target), len(labels)), bool)
    positives_NC[cells["row"], cells["label"]] = True
    return positives_NC
