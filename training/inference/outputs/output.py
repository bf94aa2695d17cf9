"""Interface of the formats: each takes the recordings of a run in order, one by one.

Files appear when they are complete: a run that ends early leaves those of an earlier one.
"""

import csv
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from storage.objects.urls import is_remote
from storage.output_files import output_file
from storage.recipe import Recipe
from storage.source.files import RecordingFiles
from training.inference.outputs.config import OutputConfig
from training.inference.outputs.text import plain_path
from training.inference.predictions import ClassTable, PredictedRecording, WindowPredictions

# Names that storage.output_files gives to files that are not complete.
_TABLE = re.compile(
    r"\.((predictions|detections)\.parquet|(detections|kaleidoscope|presence|submission)\.csv"
    r"|all\.selections\.txt)\.\d+"
)
_OF_RECORDING = re.compile(r"\..*\.(txt|wav|csv)\.\d+")
METADATA = "melbank"  # key of the metadata of Parquet files


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedRun:
    """All predictions of a run.

    `windows` by recording, in the order of the run. `about`: model, parameters and version, as
    JSON values; each Parquet file has it in its metadata. `band_hz`: lowest and highest frequency
    of the model, for programs that draw boxes. `recipe`: of its slices, for pictures.
    `calibrated`: its scores are, so that thresholds of tools.calibrate have to be.
    """

    windows: Iterable[WindowPredictions]
    classes: ClassTable
    about: Mapping[str, Any]
    band_hz: tuple[float, float] | None = None
    recipe: Recipe | None = None
    calibrated: bool = False

    def metadata(self) -> dict[str, str]:
        """Key-value metadata of Parquet files: one JSON object."""
        return {METADATA: json.dumps(self.about, sort_keys=True, ensure_ascii=False)}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputJob:
    """Input of the formats: run, settings and folder; `open` holds the files until the end."""

    run: PredictedRun
    config: OutputConfig
    folder: Path
    open: ExitStack
    audio: RecordingFiles = field(default_factory=RecordingFiles)

    def text_file(self, name: str) -> TextIO:
        """Opens a text file of the folder for writing; it is put in place at the end of the run."""
        unfinished = self.open.enter_context(output_file(self.folder / name))
        return self.open.enter_context(unfinished.open("w", encoding="utf-8", newline=""))

    def recording_file(self, subfolder: str, recording: PredictedRecording, ending: str) -> Path:
        """Path of the file of a recording, in the folder structure of the recordings."""
        return self.folder / subfolder / f"{plain_path(recording.recording_id)}{ending}"


def remove_unfinished(folder: Path, subfolders: Iterable[str]) -> None:
    """Deletes files that a run did not complete before it was killed, in folders of the formats."""
    found = [path for path in folder.glob(".*") if _TABLE.fullmatch(path.name)]
    for name in subfolders:
        hidden = (folder / name).rglob(".*")
        found += [path for path in hidden if _OF_RECORDING.fullmatch(path.name)]
    for path in found:
        path.unlink()


class Output(ABC):
    """A format that is being written."""

    def __init__(self, job: OutputJob) -> None:
        self.job = job
        self.notes: list[str] = []  # one sentence each

    @abstractmethod
    def add(self, windows: WindowPredictions, detections: pl.DataFrame) -> None:
        """Writes one recording: its windows and the detections in them, columns of detect.py."""

    def finish(self) -> list[str]:
        """Completes the files after the last recording; returns notes for users, if any."""
        return self.notes


def full_path(recording: PredictedRecording) -> str:
    """Returns the absolute path of a recording, for programs that open it; a URL as it is."""
    path = recording.path
    return path if is_remote(path) else str(Path(path).absolute())


def csv_writer(file: TextIO) -> Any:
    """A writer of csv (RFC 4180, but for line ends of one letter): quotes where needed."""
    return csv.writer(file, lineterminator="\n")
