"""Label tracks of Audacity, one per recording: File > Import > Labels.

Tab-separated text without a header: start, end, label (Audacity manual, "Importing and exporting
labels"). The lines that begin with a backslash and give frequencies are optional, and left out: a
detection has none. The label is the common name and the score.
"""

import polars as pl

from storage.output_files import output_file
from training.inference.outputs.output import Output
from training.inference.outputs.text import one_line, seconds
from training.inference.predictions import WindowPredictions

FOLDER, ENDING = "audacity", ".txt"


class AudacityLabels(Output):
    """Writes a label track for each recording; an empty file where nothing was detected."""

    def add(self, windows: WindowPredictions, detections: pl.DataFrame) -> None:
        target = self.job.recording_file(FOLDER, windows.recording, ENDING)
        columns = detections.select("start_s", "end_s", "common_name", "score")
        with output_file(target) as unfinished, unfinished.open("w", encoding="utf-8") as file:
            for start_s, end_s, name, score in columns.iter_rows():
                label = one_line(f"{name} {score:.3f}")
                file.write(f"{seconds(start_s)}\t{seconds(end_s)}\t{label}\n")
