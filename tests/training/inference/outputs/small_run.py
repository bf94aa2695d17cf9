"""A small run of predictions for the tests of outputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.inference.outputs.config import DetectConfig, OutputConfig
from training.inference.outputs.output import PredictedRun
from training.inference.outputs.write import OutputSummary, write_outputs
from training.inference.predictions import ClassTable, PredictedRecording, WindowPredictions

NASTY = 'a,"b"\tc\nd\u2028é'
CLASSES = ClassTable(
    labels=("wren", "robin", NASTY),
    names={
        "wren": {"common_name": "Wren", "scientific_name": "Troglodytes troglodytes"},
        "robin": {"common_name": "Robin", "scientific_name": "Erithacus rubecula"},
        NASTY: {"common_name": '"Quoted" bird'},
    },
)
ABOUT = {"version": "0.1.0", "model": "exp_001", "detect": {"threshold": 0.5}}


def windows(
    scores: Sequence[Sequence[float]],
    recording_id: str = "marsh/A_20240601_233000",
    *,
    length_s: float = 5.0,
    step_s: float | None = None,
    **recording: Any,
) -> WindowPredictions:
    """Windows of a recording with these scores, one after the other."""
    array_WC = np.array(scores, np.float32).reshape(len(scores), -1)
    start_s = np.arange(len(scores)) * (step_s or length_s)
    known = {
        "path": f"/data/{recording_id}.wav",
        "duration_s": float(start_s[-1] + length_s) if len(scores) else 0.0,
    }
    return WindowPredictions(
        recording=PredictedRecording(recording_id=recording_id, **{**known, **recording}),
        start_s=start_s,
        end_s=start_s + length_s,
        silent=np.zeros(len(scores), bool),
        probabilities=array_WC,
    )


def small_run() -> list[WindowPredictions]:
    """Three recordings, the second without a detection at 0.5."""
    return [
        windows(
            [[0.9, 0.2, 0.6], [0.8, 0.5, np.nan], [0.1, 0.7, 0.3]],
            duration_s=13.5,
            sample_rate_hz=24_000,
            date="2024-06-01",
            time="23:59:52",
            site="A",
        ),
        windows([[0.1, 0.1, 0.4]] * 2, "marsh/B"),
        windows([[0.3, 0.95, 0.1]], "C", site='C, the "big" one'),
    ]


def write(
    folder: Path,
    *formats: str,
    run: Sequence[WindowPredictions] | None = None,
    classes: ClassTable = CLASSES,
    detect: DetectConfig | None = None,
    **config: Any,
) -> OutputSummary:
    """Writes formats of the small run, or of another one."""
    predicted = PredictedRun(
        windows=small_run() if run is None else run,
        classes=classes,
        about=ABOUT,
        band_hz=(20.0, 15_000.0),
    )
    options = OutputConfig(formats=list(formats), **config)
    return write_outputs(predicted, options, detect or DetectConfig(), folder)
