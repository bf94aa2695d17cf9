"""Steps over neighbouring windows of a recording.

A sound is often in several windows, and a model's noise in one: neighbours support each other.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from storage.errors import ConfigError
from storage.options import check_at_least, check_between
from training.inference.post.step import Step
from training.inference.predictions import WindowPredictions


@dataclass(frozen=True, slots=True, kw_only=True)
class Smooth(Step):
    """Smoothing: p_i = sum_j k_j p_(i+j) / sum_j k_j, over the windows that exist.

    Babych 2025 (first place of BirdCLEF 2025): [.1, .2, .4, .2, .1].
    """

    kernel: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.4, 0.2, 0.1])

    def __post_init__(self) -> None:
        if not len(self.kernel) % 2 or min(self.kernel) < 0:
            raise ConfigError(
                f"post: smooth: kernel={self.kernel} needs an odd number of weights, none below 0"
            )
        if not self.kernel[len(self.kernel) // 2] > 0:
            raise ConfigError(f"post: smooth: kernel={self.kernel}: its middle must be above 0")

    def apply(self, windows: WindowPredictions, state: Any) -> np.ndarray:
        del state
        return smooth(windows.probabilities, self.kernel)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaShift(Step):
    """Mean with windows that are shifted by half a step to both sides.

    A window between i and i + 1 is the mean of the two: p_i = (1 - w) p_i + w/2 ((p_(i-1) + p_i)/2
    + (p_i + p_(i+1))/2). Babych 2025 shifts the sound and predicts again, three predictions of
    equal weight, so w = 2/3 (discussion 583577 of BirdCLEF 2025).
    """

    weight: float = 2 / 3

    def __post_init__(self) -> None:
        check_between(self, "post: delta_shift", 0, 1, "weight")

    def apply(self, windows: WindowPredictions, state: Any) -> np.ndarray:
        del state
        side = self.weight / 4
        return smooth(windows.probabilities, [side, 1 - 2 * side, side])


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalMax(Step):
    """Share of the maximum near by: p = (1 - w) p + w max(n windows before ... n after).

    Second place of BirdCLEF 2026: w = 0.15, n = 1.
    """

    n: int = 1
    weight: float = 0.15

    def __post_init__(self) -> None:
        check_at_least(self, "post: local_max", 0, "n")
        check_between(self, "post: local_max", 0, 1, "weight")

    def apply(self, windows: WindowPredictions, state: Any) -> np.ndarray:
        del state
        p_WC = windows.probabilities.astype(np.float64)
        most_WC = p_WC.copy()
        for step in range(1, min(self.n, len(p_WC) - 1) + 1):
            np.maximum(most_WC[step:], p_WC[:-step], out=most_WC[step:])
            np.maximum(most_WC[:-step], p_WC[step:], out=most_WC[:-step])
        return p_WC + self.weight * (most_WC - p_WC)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalMean(Step):
    """Share of the mean near by: p = (1 - w) p + w mean(n windows before ... n after).

    The window itself is one of them; at the ends the mean is of fewer.
    """

    n: int = 1
    weight: float = 0.15

    def __post_init__(self) -> None:
        check_at_least(self, "post: local_mean", 0, "n")
        check_between(self, "post: local_mean", 0, 1, "weight")

    def apply(self, windows: WindowPredictions, state: Any) -> np.ndarray:
        del state
        p_WC = windows.probabilities.astype(np.float64)
        n = min(self.n, max(0, len(p_WC) - 1))
        return p_WC + self.weight * (smooth(p_WC, [1.0] * (2 * n + 1)) - p_WC)


def smooth(probabilities_WC: np.ndarray, kernel: list[float]) -> np.ndarray:
    """Weighted mean over neighbouring windows, float64 [W, C]; the kernel's middle is window i.

    Where the kernel goes over an end, the weights that are left are brought to sum one.
    """
    num, half = len(probabilities_WC), len(kernel) // 2
    total_WC = np.zeros(probabilities_WC.shape)
    weight_W1 = np.zeros((num, 1))
    for offset, weight in enumerate(kernel, start=-half):
        if abs(offset) >= num:
            continue
        begin, end = max(0, -offset), num - max(0, offset)
        total_WC[begin:end] += weight * probabilities_WC[begin + offset : end + offset]
        weight_W1[begin:end] += weight
    return total_WC / weight_W1
