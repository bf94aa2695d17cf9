"""`submission.csv` for a competition of Kaggle, as BirdCLEF has it since 2023.

One row per window, `row_id` = file stem + `_` + end of the window in whole seconds, and one column
of probabilities per class. With `output.sample_submission` its rows, columns and their order are
those of the file, and everything is checked before a file appears: soundscapes and windows that
are missing, soundscapes that it does not have, probabilities outside [0, 1] and NaN.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from storage.errors import ConfigError
from storage.output_files import output_file
from storage.recipe import Recipe
from training.inference.outputs.class_lists import shown
from training.inference.outputs.config import OutputConfig
from training.inference.outputs.output import Output, OutputJob
from training.inference.predictions import ClassTable, WindowPredictions

FILE, ROW_ID = "submission.csv", "row_id"
KEY = "output.sample_submission"
TOLERANCE_S = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Rows and columns of a sample submission, in order."""

    path: str
    row_ids: list[str]
    labels: list[str]

    @classmethod
    def read(cls, path: str) -> "Sample":
        """Reads a sample; ConfigError where it has no row_id, no rows or repeated ids."""
        try:
            # columns that repeat a name get a suffix from Polars, and are then no class
            columns = pl.read_csv(path, n_rows=0, infer_schema=False, glob=False).columns
            if ROW_ID not in columns:
                raise ConfigError(f"{KEY}={path} has no column row_id, but {shown(columns)}")
            row_ids = pl.read_csv(path, columns=[ROW_ID], infer_schema=False, glob=False)[ROW_ID]
        except (PolarsError, OSError) as error:
            reason = (str(error).splitlines() or ["it is no csv"])[0]
            raise ConfigError(f"{KEY}={path} cannot be read ({reason})") from error
        repeated = row_ids.filter(row_ids.is_duplicated())
        if not len(row_ids) or row_ids.null_count() or len(repeated):
            problem = f"{repeated[0]} twice" if len(repeated) else "no row, or an empty row_id"
            raise ConfigError(f"{KEY}={path} has {problem}: it is not a sample of a competition")
        labels = [name for name in columns if name != ROW_ID]
        return cls(path=path, row_ids=row_ids.to_list(), labels=labels)


def row_ids(windows: WindowPredictions) -> list[str | None]:
    """The row_id of each window; None for windows that end at a fraction of a second."""
    whole_s = np.rint(windows.end_s)
    is_whole = np.abs(windows.end_s - whole_s) < TOLERANCE_S
    stem = windows.recording.stem
    return [
        f"{stem}_{int(end)}" if whole else None
        for end, whole in zip(whole_s, is_whole, strict=True)
    ]


def check_submission(
    config: OutputConfig, classes: ClassTable, recording_ids: Sequence[str], windows: Recipe
) -> None:
    """Raises ConfigError where the recordings cannot give the submission that is wanted.

    Meant for the time before they are predicted: names of files, classes, and length and step of
    the windows are known then.
    """
    folders: dict[str, str] = {}
    for recording_id in recording_ids:
        _check_stem(recording_id, folders)
    if config.sample_submission is None:
        if windows.slice_s % 1 or windows.slice_step_s % 1:
            raise ConfigError(
                f"not all windows of {windows.slice_s:g} s every {windows.slice_step_s:g} s end at "
                f"whole seconds, as row_id has them: choose predict.step_s so, or give {KEY}"
            )
        return
    sample = Sample.read(config.sample_submission)
    class_notes(sample, classes.labels, config.fill_missing)
    wanted = dict.fromkeys(_stem(row_id) for row_id in sample.row_ids)
    _check_expected(sample, [stem for stem in folders if stem not in wanted])
    missing = [stem for stem in wanted if stem not in folders]
    if missing and config.fill_missing is None:
        raise ConfigError(
            f"{KEY}={sample.path} has {len(missing)} soundscapes that are not among the "
            f"{len(folders)} recordings ({shown(missing)}): give these too, or say what they get, "
            "as in output.fill_missing=0"
        )


def class_notes(sample: Sample, labels: Sequence[str], fill: float | None) -> list[str]:
    """Differences of the classes, for users; ConfigError where the sample cannot be filled."""
    known, wanted = set(labels), set(sample.labels)
    lacking = [label for label in sample.labels if label not in known]
    surplus = [label for label in labels if label not in wanted]
    if lacking and fill is None:
        raise ConfigError(
            f"{KEY}={sample.path} has {len(lacking)} classes that the model lacks "
            f"({shown(lacking)}): predict with a model of these too, or say what their "
            "probability is, as in output.fill_missing=0"
        )
    if len(lacking) == len(sample.labels):
        raise ConfigError(
            f"{KEY}={sample.path} and the model have no class in common: its columns are "
            f"{shown(sample.labels)}, those of the model {shown(labels)}"
        )
    notes = []
    if lacking:
        notes.append(
            f"{FILE}: {len(lacking)} classes that the model lacks are {fill:g} ({shown(lacking)})"
        )
    if surplus:
        notes.append(
            f"{FILE}: {len(surplus)} classes of the model are left out, as the sample lacks them "
            f"({shown(surplus)})"
        )
    return notes


class Submission(Output):
    """Writes `submission.csv`: the rows of a sample, or all windows in the order of the run."""

    def __init__(self, job: OutputJob) -> None:
        super().__init__(job)
        self._folders: dict[str, str] = {}  # recording_id by stem
        self._labels = job.run.classes.labels
        path = job.config.sample_submission
        self._filling = None if path is None else _SampleFilling(job, Sample.read(path))
        if self._filling is None:
            self._file = job.text_file(FILE)
            empty = pl.DataFrame(schema=[ROW_ID, *self._labels])
            self._file.write(empty.write_csv())

    def add(self, windows: WindowPredictions, detections: pl.DataFrame) -> None:
        recording = windows.recording
        _check_stem(recording.recording_id, self._folders)
        ids = row_ids(windows)
        _check_scores(windows, self._labels, self.job.config.fill_missing)
        if self._filling is not None:
            self._filling.add(recording.stem, ids, windows.probabilities)
        else:
            self._write(windows, ids)

    def finish(self) -> list[str]:
        if self._filling is not None:
            self._filling.write(self.job.folder / FILE)
            self.notes += self._filling.notes
        return self.notes

    def _write(self, windows: WindowPredictions, ids: list[str | None]) -> None:
        if None in ids:
            end_s = windows.end_s[ids.index(None)]
            raise ConfigError(
                f"a window of {windows.recording.recording_id} ends at {end_s:g} s, and a row_id "
                f"has whole seconds: choose predict.step_s so, or give {KEY}"
            )
        scores = windows.probabilities
        if self.job.config.fill_missing is not None:
            scores = np.nan_to_num(scores, nan=self.job.config.fill_missing)
        frame = pl.DataFrame(scores, list(self._labels), orient="row")
        frame = frame.insert_column(0, pl.Series(ROW_ID, ids))
        self._file.write(frame.write_csv(include_header=False))


class _SampleFilling:
    """The cells of a sample submission, and which of them are predicted."""

    def __init__(self, job: OutputJob, sample: Sample) -> None:
        self.notes: list[str] = []
        self._sample = sample
        self._fill = job.config.fill_missing
        self._rows = {row_id: row for row, row_id in enumerate(sample.row_ids)}
        self._stems = {row_id.rpartition("_")[0] for row_id in sample.row_ids}
        places = {label: place for place, label in enumerate(job.run.classes.labels)}
        self._places = [places[label] for label in sample.labels if label in places]
        self._columns = [c for c, label in enumerate(sample.labels) if label in places]
        self._unexpected: list[str] = []
        self._num_extra = 0
        self.notes += class_notes(sample, job.run.classes.labels, self._fill)
        fill = np.nan if self._fill is None else self._fill
        self._cells = np.full((len(self._rows), len(sample.labels)), fill, np.float32)
        self._is_predicted = np.zeros(len(self._rows), bool)

    def add(self, stem: str, ids: list[str | None], scores_WC: np.ndarray) -> None:
        if stem not in self._stems:
            self._unexpected.append(stem)
            return
        known = [(window, self._rows[i]) for window, i in enumerate(ids) if i in self._rows]
        self._num_extra += len(ids) - len(known)
        if not known:
            return
        windows, rows = (list(numbers) for numbers in zip(*known, strict=True))
        scores_RC = scores_WC[np.ix_(windows, self._places)]
        if self._fill is not None:
            scores_RC = np.nan_to_num(scores_RC, nan=self._fill)
        self._cells[np.ix_(rows, self._columns)] = scores_RC
        self._is_predicted[rows] = True

    def write(self, target: Path) -> None:
        """Writes the rows of the sample; ConfigError where they do not fit the predictions."""
        self._check_rows()
        if self._num_extra:
            self.notes.append(
                f"{FILE}: {self._num_extra:,} windows are left out, as the sample has no row for "
                "them"
            )
        frame = pl.DataFrame(self._cells, self._sample.labels, orient="row")
        frame = frame.insert_column(0, pl.Series(ROW_ID, self._sample.row_ids))
        with output_file(target) as unfinished:
            frame.write_csv(unfinished)

    def _check_rows(self) -> None:
        where = f"{KEY}={self._sample.path}"
        _check_expected(self._sample, self._unexpected)
        ids = np.array(self._sample.row_ids, dtype=object)[~self._is_predicted].tolist()
        if not ids:
            return
        stems = _stems(ids)
        whole = stems - _stems(np.array(self._sample.row_ids, dtype=object)[self._is_predicted])
        parts = []
        if whole:
            listed = [stem for stem in dict.fromkeys(_stem(i) for i in ids) if stem in whole]
            parts.append(f"{len(listed)} soundscapes were not predicted ({shown(listed)})")
        single = [i for i in ids if _stem(i) not in whole]
        if single:
            parts.append(f"{len(single)} windows were not predicted ({shown(single)})")
        if self._fill is None:
            raise ConfigError(
                f"{where}: {' and '.join(parts)}: see the rejects for unreadable files, compare "
                "predict.step_s with the row_id, or say what they get, as in output.fill_missing=0"
            )
        self.notes += [f"{FILE}: {part}; they are {self._fill:g}" for part in parts]


def _check_stem(recording_id: str, folders: dict[str, str]) -> None:
    """Raises ConfigError where another recording has the same file name; adds it to `folders`."""
    stem = recording_id.rpartition("/")[2]
    other = folders.setdefault(stem, recording_id)
    if other != recording_id:
        raise ConfigError(
            f"{other} and {recording_id} have equal file names, so their rows in {FILE} would be "
            "the same: predict each folder to an output of its own"
        )


def _check_expected(sample: Sample, unexpected: list[str]) -> None:
    if unexpected:
        raise ConfigError(
            f"{KEY}={sample.path} has no rows for {len(unexpected)} of the soundscapes "
            f"({shown(unexpected)}): predict only those that it names"
        )


def _stem(row_id: str) -> str:
    return row_id.rpartition("_")[0]


def _stems(ids: Iterable[str]) -> set[str]:
    return {_stem(row_id) for row_id in ids}


def _check_scores(windows: WindowPredictions, labels: tuple[str, ...], fill: float | None) -> None:
    """Raises ConfigError on the first score that no submission may have."""
    scores_WC = windows.probabilities
    is_wrong = (scores_WC < 0) | (scores_WC > 1)
    if fill is None:
        is_wrong |= np.isnan(scores_WC)
    if not is_wrong.any():
        return
    window, place = (int(numbers[0]) for numbers in np.nonzero(is_wrong))
    value = float(scores_WC[window, place])
    reason = "is NaN" if np.isnan(value) else f"is {value:g}, not in 0 to 1"
    way_out = (
        "predict with models of equal classes, or say what missing ones get, as in "
        "output.fill_missing=0"
        if np.isnan(value)
        else "end the post-processing with a step that gives probabilities"
    )
    raise ConfigError(
        f"{FILE}: {labels[place]} at {windows.start_s[window]:g} s of "
        f"{windows.recording.recording_id} {reason}: {way_out}"
    )
