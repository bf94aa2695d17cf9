"""Tables made from the raw results of a run: probabilities by window, and rejects.

Shapes: W windows, C classes.
"""

import os
from pathlib import Path

import polars as pl

from storage.objects.local import LocalObjects
from training.inference.blending import mean_known
from training.inference.results import RawPredictions, Results

PREDICTIONS, REJECTS = "predictions.parquet", "rejects.csv"
REJECT_SCHEMA = {
    "recording_id": pl.String,
    "path": pl.String,
    "reason": pl.String,
    "partial": pl.Boolean,
}


def write_rejects(results: Results) -> Path:
    """Writes rejects.csv: recordings without predictions, and those used in part, with reasons."""
    rows = [(one.recording_id, one.path, one.reason, False) for one in results.rejects()]
    rows += [
        (one.recording_id, one.path, one.problem, True)
        for one in results.recordings()
        if one.problem
    ]
    table = pl.DataFrame(rows, schema=REJECT_SCHEMA, orient="row").sort("recording_id")
    LocalObjects(str(results.root)).put(REJECTS, table.write_csv().encode())
    return results.root / REJECTS


def write_predictions(results: Results) -> Path | None:
    """Writes predictions.parquet, the mean of all branches by window; None without any."""
    labels = results.labels()
    frames = [_frame(raw, labels) for raw in results.iterate()]
    if not frames:
        return None
    path = results.root / PREDICTIONS
    unfinished = path.with_name(f".{PREDICTIONS}.{os.getpid()}")
    try:
        pl.concat(frames).write_parquet(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _frame(raw: RawPredictions, labels: tuple[str, ...]) -> pl.DataFrame:
    """recording_id, start_s, end_s, silent, p_<label> of each window."""
    mean_WC = mean_known(raw.probabilities)
    columns = {f"p_{label}": mean_WC[:, place] for place, label in enumerate(labels)}
    head = {"start_s": raw.start_s, "end_s": raw.end_s, "silent": raw.silent}
    name = pl.lit(raw.recording.recording_id).alias("recording_id")
    return pl.DataFrame(head | columns).select(name, pl.all())
