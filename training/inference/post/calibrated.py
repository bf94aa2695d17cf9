"""Calibration as a step, for another place than the first in the order."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import ConfigError
from training.inference.evaluation.calibration import CalibrationTable, read_calibration
from training.inference.post.step import Step
from training.inference.predictions import ClassTable, WindowPredictions


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrate(Step):
    """Platt scaling: p = sigmoid(a logit(p) + b), a and b of the class from a csv.

    The csv is that of tools.calibrate, made from predictions of the same model, or from those that
    the steps before this one have given.
    """

    csv: str = ""

    def __post_init__(self) -> None:
        if not self.csv:
            raise ConfigError("post: calibrate needs the file of tools.calibrate, as csv=FILE")

    def prepare(self, run: Iterable[WindowPredictions], classes: ClassTable) -> CalibrationTable:
        """Reads the csv; raises ConfigError where it lacks a class."""
        del run
        return read_calibration(Path(self.csv)).of(classes.labels)

    def apply(self, windows: WindowPredictions, state: Any) -> np.ndarray:
        table: CalibrationTable = state
        return table.apply(windows.probabilities)
