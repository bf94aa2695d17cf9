"""Tables made from the raw results of a run: probabilities by window, and rejects.

Shapes: B branches, W windows, C classes.
"""

import io
import os
from dataclasses import asdict, fields
from pathlib import Path

import polars as pl

from storage.objects.local import LocalObjects
from training.inference.blending import mean_known
from training.inference.results import RawPredictions, Reject, Results

PREDICTIONS, REJECTS = "predictions.parquet", "rejects.csv"


def write_tables(out: Path) -> list[Path]:
    """Writes predictions.parquet, the mean of all branches, and rejects.csv; returns their paths.

    Memory does not depend on the number of recordings: each is a part of the file.
    """
    results = Results(out)
    labels = results.labels()
    objects = LocalObjects(str(out))
    rejects = pl.DataFrame(
        [asdict(one) for one in results.rejects()],
        schema={field.name: pl.String for field in fields(Reject)},
    )
    buffer = io.BytesIO()
    rejects.write_csv(buffer)
    objects.put(REJECTS, buffer.getvalue())
    frames = (_frame(raw, labels) for raw in results.iterate())
    unfinished = out / f".{PREDICTIONS}.{os.getpid()}"
    first = next(frames, None)
    if first is None:
        return [out / REJECTS]
    try:
        pl.concat([first.lazy(), *(frame.lazy() for frame in frames)]).sink_parquet(unfinished)
        unfinished.replace(out / PREDICTIONS)
    finally:
        unfinished.unlink(missing_ok=True)
    return [out / PREDICTIONS, out / REJECTS]


def _frame(raw: RawPredictions, labels: tuple[str, ...]) -> pl.DataFrame:
    """recording_id, start_s, end_s, silent, p_<label> of each window."""
    mean_WC = mean_known(raw.probabilities)
    columns = {f"p_{label}": mean_WC[:, place] for place, label in enumerate(labels)}
    head = {"start_s": raw.start_s, "end_s": raw.end_s, "silent": raw.silent}
    name = pl.lit(raw.recording.recording_id).alias("recording_id")
    return pl.DataFrame(head | columns).select(name, pl.all())
