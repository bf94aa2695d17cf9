"""Predictions of recordings that are made by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.inference.predictions import ClassTable, PredictedRecording, WindowPredictions

LABELS = ("robin", "wren", "frog", "toad")
NAMES = {
    "robin": {"class_name": "Aves", "scientific_name": "Erithacus rubecula"},
    "wren": {"class_name": "Aves", "scientific_name": "Troglodytes troglodytes"},
    "frog": {"class_name": "Amphibia", "genus": "Rana"},
    "toad": {"class_name": "Amphibia"},
}
CLASSES = ClassTable(labels=LABELS, names=NAMES)


def windows_of(
    probabilities: Sequence[Sequence[float]] | np.ndarray, name: str = "a", **facts: Any
) -> WindowPredictions:
    """Windows of 5 s, one after the other."""
    values = np.asarray(probabilities, np.float32).reshape(-1, np.shape(probabilities)[-1])
    start_s = 5.0 * np.arange(len(values))
    return WindowPredictions(
        recording=PredictedRecording(
            recording_id=name, path=f"{name}.ogg", duration_s=5.0 * len(values), **facts
        ),
        start_s=start_s,
        end_s=start_s + 5,
        silent=np.zeros(len(values), bool),
        probabilities=values,
    )
