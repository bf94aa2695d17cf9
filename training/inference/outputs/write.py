"""Writes all formats of a run in one pass over its recordings.

    summary = write_outputs(run, OutputConfig(formats=["raven", "csv"]), DetectConfig(), folder)

Memory is independent of the number of recordings, apart from the rows of a sample submission.
Equal predictions and settings give equal bytes; no file holds the time of the run.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from storage.recipe import Recipe
from storage.source.files import RecordingFiles
from training.inference.outputs import audacity, excerpts, raven
from training.inference.outputs.audacity import AudacityLabels
from training.inference.outputs.config import DetectConfig, OutputConfig
from training.inference.outputs.detect import Detector
from training.inference.outputs.excerpts import Excerpts
from training.inference.outputs.kaleidoscope import KaleidoscopeTable
from training.inference.outputs.output import (
    Output,
    OutputJob,
    PredictedRun,
    remove_unfinished,
)
from training.inference.outputs.presence import PresenceTable
from training.inference.outputs.raven import RavenTables
from training.inference.outputs.submission import Submission, check_submission
from training.inference.outputs.tables import DetectionCsv, DetectionTable, WindowTable
from training.inference.predictions import ClassTable, WindowPredictions


def _open_pictures(job: OutputJob) -> Output:
    from training.inference.outputs.pictures import Pictures  # matplotlib takes a second

    return Pictures(job)


WRITERS: dict[str, tuple[Callable[[OutputJob], Output], ...]] = {
    "parquet": (WindowTable, DetectionTable),
    "csv": (DetectionCsv,),
    "raven": (RavenTables,),
    "audacity": (AudacityLabels,),
    "kaleidoscope": (KaleidoscopeTable,),
    "submission": (Submission,),
    "excerpts": (Excerpts,),
    "presence": (PresenceTable,),
    "pictures": (_open_pictures,),
}
SUBFOLDERS = (audacity.FOLDER, excerpts.FOLDER, raven.FOLDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSummary:
    """Numbers of a run, and what users should know of it, one sentence each."""

    num_recordings: int
    num_windows: int
    num_detections: int
    notes: tuple[str, ...] = ()


def write_outputs(
    run: PredictedRun,
    config: OutputConfig,
    detect: DetectConfig,
    folder: Path,
    *,
    presence: dict[str, float] | None = None,
    audio: RecordingFiles | None = None,
) -> OutputSummary:
    """Writes the formats of `output.formats` into a folder.

    `presence`: probability of species at the place and week of `detect`, by label or scientific
    name. `audio` opens recordings for excerpts; by default, without settings for buckets. Raises
    ConfigError where lists or a sample submission do not fit the run, StoreError where the disk
    refuses; the files of an earlier run are then as they were, apart from tables and labels of
    single recordings.
    """
    detector = Detector.open(detect, run.classes, presence, calibrated=run.calibrated)
    remove_unfinished(folder, SUBFOLDERS)
    counts = _Counts(detector)
    with ExitStack() as stack:
        files = audio or RecordingFiles()
        job = OutputJob(run=run, config=config, folder=folder, open=stack, audio=files)
        outputs = [
            writer(job)
            for name in dict.fromkeys(config.formats)  # one that is named twice is written once
            for writer in WRITERS[name]
        ]
        for windows in run.windows:
            detections = detector.find(windows)
            counts.add(windows, detections)
            for output in outputs:
                output.add(windows, detections)
        notes = [note for output in outputs for note in output.finish()]
    return OutputSummary(
        num_recordings=counts.num_recordings,
        num_windows=counts.num_windows,
        num_detections=counts.num_detections,
        notes=(*counts.notes(), *notes),
    )


def check_outputs(
    config: OutputConfig,
    detect: DetectConfig,
    classes: ClassTable,
    recording_ids: Sequence[str],
    windows: Recipe,
    presence: dict[str, float] | None = None,
) -> None:
    """Raises ConfigError where `write_outputs` would, as far as it is known before predicting."""
    Detector.open(detect, classes, presence)
    if "submission" in config.formats:
        check_submission(config, classes, recording_ids, windows)


class _Counts:
    """Sums over the recordings of a run, and the highest score, which explains an empty result."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.num_recordings = self.num_windows = self.num_detections = 0
        self._num_unlisted = 0
        self._highest: tuple[float, str, str] | None = None  # score, label, recording

    def add(self, windows: WindowPredictions, detections: pl.DataFrame) -> None:
        self.num_recordings += 1
        self.num_windows += len(windows.start_s)
        self.num_detections += len(detections)
        species = self._detector.species
        if species.by_site and species.of(windows.recording.site) is None:
            self._num_unlisted += 1
        if self.num_detections or not windows.probabilities.size:
            return
        scores = np.nan_to_num(windows.probabilities, nan=-1.0)
        score = float(scores.max())
        if score >= 0 and (self._highest is None or score > self._highest[0]):
            place = int(scores.max(0).argmax())
            label = self._detector.classes.labels[place]
            self._highest = score, label, windows.recording.recording_id

    def notes(self) -> list[str]:
        notes = []
        if self.num_recordings and not self.num_detections:
            highest = "no class has a score"
            if self._highest is not None:
                score, label, recording_id = self._highest
                highest = f"the highest score is {score:.3f} ({label} in {recording_id})"
            notes.append(f"nothing was detected: {highest}; see detect.threshold and its lists")
        if self._num_unlisted:
            notes.append(
                f"detect.species has no list for the site of {self._num_unlisted:,} recordings: "
                "all classes can be detected there"
            )
        if self._detector.species.num_unknown:
            notes.append(
                f"detect.species: {self._detector.species.num_unknown:,} of its species are no "
                "class of the model"
            )
        return notes
