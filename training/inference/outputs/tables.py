"""Tables of windows and of detections: Parquet and csv.

`predictions.parquet` has one row per window: recording_id, start_s, end_s, silent, and `p_LABEL`
for each class; null where no model knows the class. `detections.parquet` and `detections.csv`
have one row per detection, with the columns of detect.py. The Parquet files hold model,
parameters and version in their metadata, under the key `melbank`. A csv has no place for it that
all readers skip: `predict.json` in the same folder does.

Recordings are collected to blocks in temporary Parquet files, which are joined at the end: memory
is independent of the number of recordings.
"""

import shutil
from pathlib import Path

import numpy as np
import polars as pl

from storage.output_files import output_file
from training.inference.outputs.detect import empty_detections
from training.inference.outputs.output import Output, OutputJob
from training.inference.predictions import WindowPredictions

BLOCK_CELLS = 1 << 20  # 4 MB of float32, which is held in memory
CSV_ROWS, CSV_TIME = 1 << 14, "%Y-%m-%dT%H:%M:%S%.3f"  # 2 MB of text at a time
GROUPED_BLOCKS = 4  # to a row group: fewer groups have less metadata
WIDE, LONG, LONG_CSV = "predictions.parquet", "detections.parquet", "detections.csv"


class WindowTable(Output):
    """Writes `predictions.parquet`."""

    def __init__(self, job: OutputJob) -> None:
        super().__init__(job)
        self._columns = [f"p_{label}" for label in job.run.classes.labels]
        empty = {"recording_id": pl.String, "start_s": pl.Float64, "end_s": pl.Float64}
        schema = {**empty, "silent": pl.Boolean, **dict.fromkeys(self._columns, pl.Float32)}
        self._table = _GrowingParquet(job, WIDE, pl.DataFrame(schema=schema))
        self._waiting: list[WindowPredictions] = []
        self._num_waiting = 0

    def add(self, windows: WindowPredictions, detections: pl.DataFrame) -> None:
        # frames of many columns are slow to make: one for a block of recordings
        step = self._table.block_rows
        for first in range(0, len(windows.start_s), step):
            part = _part_of(windows, slice(first, first + step))
            self._waiting.append(part)
            self._num_waiting += len(part.start_s)
            if self._num_waiting >= step:
                self._flush()

    def finish(self) -> list[str]:
        self._flush()
        self._table.write()
        return self.notes

    def _flush(self) -> None:
        if not self._num_waiting:
            return
        parts = self._waiting
        ids = [part.recording.recording_id for part in parts for _ in part.start_s]
        frame = pl.DataFrame(
            {
                "recording_id": ids,
                "start_s": np.concatenate([part.start_s for part in parts]),
                "end_s": np.concatenate([part.end_s for part in parts]),
                "silent": np.concatenate([part.silent for part in parts]),
            }
        )
        scores_WC = np.concatenate([part.probabilities for part in parts])
        scores = pl.DataFrame(scores_WC, self._columns, orient="row")
        self._waiting, self._num_waiting = [], 0
        self._table.add(frame.hstack(scores.fill_nan(None)))


def _part_of(windows: WindowPredictions, part: slice) -> WindowPredictions:
    return WindowPredictions(
        recording=windows.recording,
        start_s=windows.start_s[part],
        end_s=windows.end_s[part],
        silent=windows.silent[part],
        probabilities=windows.probabilities[part],
    )


class DetectionTable(Output):
    """Writes `detections.parquet`."""

    def __init__(self, job: OutputJob) -> None:
        super().__init__(job)
        self._table = _GrowingParquet(job, LONG, empty_detections())

    def add(self, windows: WindowPredictions, detections: pl.DataFrame) -> None:
        self._table.add(detections)

    def finish(self) -> list[str]:
        self._table.write()
        return self.notes


class DetectionCsv(Output):
    """Writes `detections.csv`: text is quoted where needed, UTF-8, times in ISO 8601."""

    def __init__(self, job: OutputJob) -> None:
        super().__init__(job)
        self._file = job.text_file(LONG_CSV)
        self._file.write(empty_detections().write_csv())

    def add(self, windows: WindowPredictions, detections: pl.DataFrame) -> None:
        for part in detections.iter_slices(CSV_ROWS):
            self._file.write(part.write_csv(include_header=False, datetime_format=CSV_TIME))


class _GrowingParquet:
    """A Parquet file that grows frame by frame, in bounded memory, with equal bytes on each run."""

    def __init__(self, job: OutputJob, name: str, empty: pl.DataFrame) -> None:
        self._target = job.folder / name
        self._metadata = job.run.metadata()
        self._empty = empty
        self.block_rows = max(1, BLOCK_CELLS // max(1, empty.width))
        job.folder.mkdir(parents=True, exist_ok=True)
        self._folder = job.folder / f".{name}.parts"
        shutil.rmtree(self._folder, ignore_errors=True)  # of a run that was killed
        self._folder.mkdir()
        job.open.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._parts: list[Path] = []
        self._waiting: list[pl.DataFrame] = []
        self._num_waiting = 0

    def add(self, frame: pl.DataFrame) -> None:
        self._waiting.append(frame)
        self._num_waiting += len(frame)
        if self._num_waiting >= self.block_rows:
            self._write_part()

    def write(self) -> None:
        """Joins the parts to the file."""
        self._write_part()
        with output_file(self._target) as unfinished:
            pl.scan_parquet(self._parts, glob=False).sink_parquet(
                unfinished,
                compression="zstd",
                row_group_size=GROUPED_BLOCKS * self.block_rows,
                maintain_order=True,
                metadata=self._metadata,
            )

    def _write_part(self) -> None:
        part = self._folder / f"{len(self._parts):06}.parquet"
        with output_file(part) as unfinished:
            pl.concat([self._empty, *self._waiting]).write_parquet(unfinished, compression="lz4")
        self._parts.append(part)
        self._waiting, self._num_waiting = [], 0
