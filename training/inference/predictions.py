"""Predictions of recordings: what predicting makes, and post-processing and outputs take.

Shapes: W windows of a recording, C classes.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedRecording:
    """One recording of a run, in the order of the run.

    `recording_id`: its name in all tables, unique in a run: the path below the folder that was
    given, less the ending, so the file stem in a flat folder. `path`: where it was read, a path or
    a URL. `duration_s`: what was decoded, s, float64. `problem`: why only a part could be used.
    Date (ISO 8601), time (HH:MM:SS), site and coordinates (degrees) where its name or a table
    gives them.
    """

    recording_id: str
    path: str
    duration_s: float
    sample_rate_hz: int | None = None
    problem: str | None = None
    date: str | None = None
    time: str | None = None
    site: str | None = None
    latitude: float | None = None
    longitude: float | None = None

    @property
    def stem(self) -> str:
        """Last part of the name, as `row_id` of Kaggle has it."""
        return self.recording_id.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowPredictions:
    """The windows of one recording, in order of time, and their probabilities.

    A window that was padded ends after the recording does: `end_s` is start and length.
    """

    recording: PredictedRecording
    start_s: np.ndarray  # float64 [W]
    end_s: np.ndarray  # float64 [W]
    silent: np.ndarray  # bool [W]: no sound above the recipe's `amin`
    probabilities: np.ndarray  # float32 [W, C]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTable:
    """The C classes of a run, in the order of the columns of probabilities.

    `names`: by label, what a taxonomy says of it, such as common_name, scientific_name, class_name,
    genus; classes and columns may be missing.
    """

    labels: tuple[str, ...]
    names: dict[str, dict[str, str]]

    def name(self, label: str, column: str) -> str:
        """The name of a class in a column of the taxonomy; the label where it has none."""
        return self.names.get(label, {}).get(column) or label
