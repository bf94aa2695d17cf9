"""Results of Kaleidoscope Pro and Lite (Wildlife Acoustics): File > Open Results.

The columns are those of its `cluster.csv` ("Kaleidoscope Pro 5 User Guide", section 5.1 on csv
files): INDIR, FOLDER and IN FILE are the folder that was analysed, the folder below it, and the
file; CHANNEL is 0 for the left one; OFFSET and DURATION are in s, and Fmin, Fmean and Fmax in Hz
(in `id.csv`, that of bats, in kHz). DATE, TIME and HOUR are those of the recording, to which OFFSET
is to be added; DATE-12, TIME-12 and HOUR-12 those 12 hours earlier, so that a night has one date.
TOP1MATCH is the species, TOP1DIST its distance from the centre of the cluster: 1 - score, as small
distances are good matches there. MANUAL ID is for the reviewer. The program marks the column by
which it sorts with a star, as in `TOP1MATCH*`.

There is no place for comments: model and parameters stand in `predict.json`.
"""

from datetime import datetime, timedelta
from typing import Any

import polars as pl

from training.inference.outputs.detect import began
from training.inference.outputs.output import Output, OutputJob, csv_writer, full_path
from training.inference.outputs.text import one_line, seconds
from training.inference.predictions import PredictedRecording, WindowPredictions

FILE = "kaleidoscope.csv"
COLUMNS = (
    "INDIR",
    "FOLDER",
    "IN FILE",
    "CHANNEL",
    "OFFSET",
    "DURATION",
    "Fmin",
    "Fmean",
    "Fmax",
    "DATE",
    "TIME",
    "HOUR",
    "DATE-12",
    "TIME-12",
    "HOUR-12",
    "TOP1MATCH",
    "TOP1DIST",
    "MANUAL ID",
)


class KaleidoscopeTable(Output):
    """Writes `kaleidoscope.csv`, one row per detection."""

    def __init__(self, job: OutputJob) -> None:
        super().__init__(job)
        self._csv = csv_writer(job.text_file(FILE))
        self._csv.writerow(COLUMNS)

    def add(self, windows: WindowPredictions, detections: pl.DataFrame) -> None:
        place = split_path(windows.recording)
        low, high = self.job.run.band_hz or (0.0, 15_000.0)
        if windows.recording.sample_rate_hz is not None:
            high = min(high, windows.recording.sample_rate_hz / 2)
        begun = began(windows.recording)
        band = [f"{value:g}" for value in (low, (low + high) / 2, high)]
        row: dict[str, Any]
        for row in detections.iter_rows(named=True):
            self._csv.writerow(
                (
                    *place,
                    "0",
                    seconds(row["start_s"]),
                    seconds(row["end_s"] - row["start_s"]),
                    *band,
                    *_clock(begun),
                    *_clock(begun and begun - timedelta(hours=12)),
                    one_line(row["common_name"]),
                    f"{1 - row['score']:.4f}",
                    "",
                )
            )


def split_path(recording: PredictedRecording) -> tuple[str, str, str]:
    """INDIR, FOLDER and IN FILE of a recording: FOLDER is that of its id, as far as it fits."""
    parent, _, name = full_path(recording).replace("\\", "/").rpartition("/")
    folder = recording.recording_id.rpartition("/")[0]
    if not folder or not parent.endswith(f"/{folder}"):
        return one_line(parent), "", one_line(name)
    return one_line(parent[: -len(folder)].rstrip("/")), one_line(folder), one_line(name)


def _clock(time: datetime | None) -> tuple[str, str, str]:
    """Date, time and hour, or empty cells."""
    if time is None:
        return "", "", ""
    return f"{time:%Y-%m-%d}", f"{time:%H:%M:%S}", f"{time:%H}"
