"""Selection tables of Raven Pro and Raven Lite (Cornell Lab of Ornithology).

Tab-separated text with a header, as its manual describes: "Raven Pro User's Manual", chapter
"Working with selections", and "Saving and opening sound selection tables" in the Raven knowledge
base. Raven places a selection by `Begin Time (s)`. In `all.selections.txt`, opened with all
recordings as one sound, it counts from the beginning of the first one: recordings without
detections count with their length. `Begin Path` and `File Offset (s)` name the file and the place
in it. A recording that could not be decoded at all is in no table: leave it out of the sound.

The format has neither quotes nor comments: tabs and line breaks in names become spaces, and
model and parameters stand in `predict.json`.
"""

from collections.abc import Iterator
from typing import Any, TextIO

import polars as pl

from storage.output_files import output_file
from training.inference.outputs.output import Output, OutputJob, full_path
from training.inference.outputs.text import one_line, seconds
from training.inference.predictions import WindowPredictions

FOLDER, ALL, ENDING = "raven", "all.selections.txt", ".selections.txt"
COLUMNS = (
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Begin Path",
    "File Offset (s)",
    "Common Name",
    "Scientific Name",
    "Species Code",
    "Score",
)
HEADER = "\t".join(COLUMNS) + "\n"


class RavenTables(Output):
    """Writes a selection table for each recording, and one for all of them."""

    def __init__(self, job: OutputJob) -> None:
        super().__init__(job)
        self._all: TextIO = job.text_file(ALL)
        self._all.write(HEADER)
        self._num_selections = 0
        self._elapsed_s = 0.0

    def add(self, windows: WindowPredictions, detections: pl.DataFrame) -> None:
        band_hz = self._band_hz(windows.recording.sample_rate_hz)
        path = one_line(full_path(windows.recording))
        target = self.job.recording_file(FOLDER, windows.recording, ENDING)
        with output_file(target) as unfinished, unfinished.open("w", encoding="utf-8") as file:
            file.write(HEADER)
            file.writelines(selection_lines(detections, path, band_hz, first=1, before_s=0.0))
        self._all.writelines(
            selection_lines(
                detections, path, band_hz, first=self._num_selections + 1, before_s=self._elapsed_s
            )
        )
        self._num_selections += len(detections)
        self._elapsed_s += windows.recording.duration_s

    def _band_hz(self, sample_rate_hz: int | None) -> tuple[float, float]:
        """Lowest and highest frequency of the boxes: what the model heard of the recording."""
        low, high = self.job.run.band_hz or (0.0, 15_000.0)
        return low, high if sample_rate_hz is None else min(high, sample_rate_hz / 2)


def selection_lines(
    detections: pl.DataFrame,
    path: str,
    band_hz: tuple[float, float],
    *,
    first: int,
    before_s: float,
) -> Iterator[str]:
    row: dict[str, Any]
    for number, row in enumerate(detections.iter_rows(named=True), first):
        cells = (
            str(number),
            "Spectrogram 1",
            "1",
            seconds(before_s + row["start_s"]),
            seconds(before_s + row["end_s"]),
            f"{band_hz[0]:g}",
            f"{band_hz[1]:g}",
            path,
            seconds(row["start_s"]),
            one_line(row["common_name"]),
            one_line(row["scientific_name"]),
            one_line(row["label"]),
            f"{row['score']:.4f}",
        )
        yield "\t".join(cells) + "\n"
