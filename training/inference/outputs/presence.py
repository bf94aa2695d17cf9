"""Table of detections per site, day, hour and class, for activity over time.

Day and hour are those of each detection on the recorder's clock: one that begins after midnight
counts for the new day. Without a time of the recording the day is its date and the hour is empty.
`num_recordings` counts the recordings in which the class was detected in that hour.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

from storage.output_files import output_file
from training.inference.outputs.output import Output, OutputJob
from training.inference.predictions import WindowPredictions

FILE = "presence.csv"
_KEYS = ("site", "date", "hour", "label")
_NAMES = ("label", "common_name", "scientific_name")
_Key = tuple[Any, ...]  # values of the columns before the counts
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


@dataclass(slots=True)
class _Count:
    """Detections of a class at a site in an hour of a day."""

    num_detections: int = 0
    num_recordings: int = 0
    max_score: float = 0.0


class PresenceTable(Output):
    """Writes `presence.csv`: memory grows with sites, days, hours and classes only."""

    def __init__(self, job: OutputJob) -> None:
        super().__init__(job)
        self._counts: dict[_Key, _Count] = {}

    def add(self, windows: WindowPredictions, detections: pl.DataFrame) -> None:
        columns = detections.select(
            "site",
            pl.col("datetime").dt.strftime("%Y-%m-%d").fill_null(pl.col("date")),
            pl.col("datetime").dt.hour().alias("hour"),
            *_NAMES,
            "score",
        )
        seen: set[_Key] = set()
        for *key, score in columns.iter_rows():
            count = self._counts.setdefault(tuple(key), _Count())
            count.num_detections += 1
            count.num_recordings += tuple(key) not in seen
            count.max_score = max(count.max_score, score)
            seen.add(tuple(key))

    def finish(self) -> list[str]:
        rows = [
            (*key, count.num_detections, count.num_recordings, count.max_score)
            for key, count in self._counts.items()
        ]
        table = pl.DataFrame(rows, _SCHEMA, orient="row").sort(*_KEYS, nulls_last=True)
        with output_file(self.job.folder / FILE) as unfinished:
            table.write_csv(unfinished)
        return self.notes
