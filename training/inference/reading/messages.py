"""Messages from decoding to predicting: cells of windows, and the ends of recordings.

Shapes: n windows, k slices of a model in a window, M mel bands, T frames.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chunk:
    """Neighbouring windows of a recording; `cells` [n, k, M, T] for each input of the models."""

    recording_no: int
    cells: tuple[np.ndarray, ...]
    start_s: np.ndarray  # float64 [n]
    silent: np.ndarray  # bool [n]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A recording has no more windows; `problem`: why only a part could be used."""

    recording_no: int
    num_windows: int
    duration_s: float
    sample_rate_hz: int | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A recording that cannot be used at all, and why."""

    recording_no: int
    reason: str


Message = Chunk | Ended | Rejected
