"""Table of detections per site, day, hour and class, for activity over time.

Day and hour are those of each detection on the recorder's clock: one that begins after midnight
counts for the new day. Without a time of the recording the day is its date and the hour is empty.
`num_recordings` counts the recordings in which the class was detected in that hour.
"""

import polars as pl

from storage.output_files import output_file
from training.inference.outputs.output import Output, OutputJob
from training.inference.predictions import WindowPredictions

FILE = "presence.csv"
_KEYS = ("site", "date", "hour", "label", "common_name", "scientific_name")
_SCHEMA = pl.Schema(
    {
        "site": pl.String,
        "date": pl.String,
        "hour": pl.Int8,
        "label": pl.String,
        "common_name": pl.String,
        "scientific_name": pl.String,
        "num_detections": pl.Int64,
        "num_recordings": pl.Int64,
        "max_score": pl.Float32,
    }
)


class PresenceTable(Output):
    """Writes `presence.csv`: memory grows with sites, days, hours and classes only."""

    def __init__(self, job: OutputJob) -> None:
        super().__init__(job)
        self._counts = pl.DataFrame(schema=_SCHEMA)

    def add(self, windows: WindowPredictions, detections: pl.DataFrame) -> None:
        if not len(detections):
            return
        here = detections.select(
            "site",
            pl.col("datetime").dt.strftime("%Y-%m-%d").fill_null(pl.col("date")).alias("date"),
            pl.col("datetime").dt.hour().alias("hour"),
            *_KEYS[3:],
            pl.lit(1, pl.Int64).alias("num_detections"),
            pl.lit(0, pl.Int64).alias("num_recordings"),
            pl.col("score").alias("max_score"),
        )
        once = _summed(here).with_columns(pl.lit(1, pl.Int64).alias("num_recordings"))
        self._counts = _summed(pl.concat([self._counts, once]))

    def finish(self) -> list[str]:
        with output_file(self.job.folder / FILE) as unfinished:
            self._counts.sort(_KEYS[:4], nulls_last=True).write_csv(unfinished)
        return self.notes


def _summed(counts: pl.DataFrame) -> pl.DataFrame:
    """One row for each site, day, hour and class."""
    return counts.group_by(_KEYS, maintain_order=True).agg(
        pl.col("num_detections", "num_recordings").sum(), pl.col("max_score").max()
    )
