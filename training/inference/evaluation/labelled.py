"""Reads tables of predictions, and those that have their labels with them.

Shapes: N rows, C classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from storage.errors import ConfigError

PREDICTIONS = "predictions.parquet"  # in the folder of tools.predict


class LabelledScores(NamedTuple):
    """Scores with their truth; `recording_no_N` is 0 for all where there is no recording_id."""

    scores_NC: np.ndarray
    positives_NC: np.ndarray  # bool
    recording_no_N: np.ndarray  # int64
    labels: tuple[str, ...]


def read_labelled(path: Path) -> LabelledScores:
    """Reads a table with `target` and `p_<label>`; raises ConfigError where it is none.

    Such are oof.parquet of an experiment and evaluated.parquet of tools.evaluate.
    """
    frame = _read("calibrate.from", path, "training and tools.evaluate write such tables")
    classes = [name for name in frame.columns if name.startswith("p_")]
    if not classes or "target" not in frame.columns or not len(frame):
        raise ConfigError(
            f"calibrate.from={path} needs rows with the columns target and p_<label>, as "
            "oof.parquet of an experiment and evaluated.parquet of tools.evaluate have"
        )
    labels = tuple(name.removeprefix("p_") for name in classes)
    recording_no = np.zeros(len(frame), np.int64)
    if "recording_id" in frame.columns:
        recording_no = frame["recording_id"].rank("dense").to_numpy().astype(np.int64) - 1
    return LabelledScores(
        scores_NC=frame.select(classes).to_numpy(),
        positives_NC=target_cells(frame["target"], labels),
        recording_no_N=recording_no,
        labels=labels,
    )


def read_predictions(paths: Sequence[str]) -> pl.DataFrame:
    """Reads and joins wide tables; a folder stands for its predictions.parquet.

    Raises ConfigError where columns differ, or a recording is in two tables.
    """
    key = "evaluate.predictions"
    if not paths:
        raise ConfigError(f"{key} names no table: give those of tools.predict, as in {key}=FOLDER")
    frames: list[pl.DataFrame] = []
    seen: set[str] = set()
    for given in paths:
        path = Path(given) / PREDICTIONS if Path(given).is_dir() else Path(given)
        frame = _read(
            key, path, "python -m tools.predict writes it, with parquet in output.formats"
        )
        if frames and set(frame.columns) != set(frames[0].columns):
            raise ConfigError(f"{key}: {paths[0]} and {given} differ in columns")
        if "recording_id" in frame.columns:
            here = set(frame["recording_id"].cast(pl.String).unique())
            if twice := sorted(here & seen):
                raise ConfigError(f"{key}: {twice[0]} is in {given} and in a table before it")
            seen |= here
        frames.append(frame)
    return pl.concat(frame.select(frames[0].columns) for frame in frames)


def _read(key: str, path: Path, remedy: str) -> pl.DataFrame:
    """Reads a table; `remedy` says where such a one comes from."""
    try:
        return pl.read_parquet(path, glob=False)
    except (OSError, PolarsError) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise ConfigError(f"{key}={path} cannot be read as Parquet: {reason}: {remedy}") from error


def target_cells(target: pl.Series, labels: Sequence[str]) -> np.ndarray:
    """True where a row's list of labels has the class, bool [N, C]; other labels are left out."""
    numbers = {label: number for number, label in enumerate(labels)}
    exploded = pl.DataFrame({"row": np.arange(len(target)), "label": target}).explode("label")
    code = pl.col("label").replace_strict(numbers, default=None, return_dtype=pl.Int64)
    cells = exploded.with_columns(code).drop_nulls()
    positives_NC = np.zeros((len(target), len(labels)), bool)
    positives_NC[cells["row"], cells["label"]] = True
    return positives_NC
