"""Steps over all windows of a recording: a species that is clear once is likelier elsewhere."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.options import check_at_least, check_between
from training.inference.post.step import Step
from training.inference.predictions import WindowPredictions


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTop(Step):
    """Scaling by the recording: p *= (1 - w) + w mean(the k highest p of the class in it).

    Second place of BirdCLEF 2025 with k = 1, second of 2026 with k = 2.
    """

    k: int = 2
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_at_least(self, "post: file_top", 1, "k")
        check_between(self, "post: file_top", 0, 1, "weight")

    def apply(self, windows: WindowPredictions, state: Any) -> np.ndarray:
        del state
        p_WC = windows.probabilities.astype(np.float64)
        if not len(p_WC):
            return p_WC
        top_C = np.sort(p_WC, axis=0)[-self.k :].mean(0)
        scaled: np.ndarray = p_WC * ((1 - self.weight) + self.weight * top_C)
        return scaled


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePower(Step):
    """Scaling by a power of the recording's maximum: p *= max(p of the class in it) ^ a.

    Second place of BirdCLEF 2026: a = 0.4.
    """

    a: float = 0.4

    def __post_init__(self) -> None:
        check_at_least(self, "post: file_power", 0, "a")

    def apply(self, windows: WindowPredictions, state: Any) -> np.ndarray:
        del state
        p_WC = windows.probabilities.astype(np.float64)
        if not len(p_WC):
            return p_WC
        scaled: np.ndarray = p_WC * p_WC.max(0) ** self.a
        return scaled
