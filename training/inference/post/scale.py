"""Steps on each probability alone: power and temperature."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.errors import ConfigError
from storage.options import check_choice, check_positive
from training.inference.post.step import Step
from training.inference.predictions import WindowPredictions

SIGMOID, SOFTMAX = "sigmoid", "softmax"


@dataclass(frozen=True, slots=True, kw_only=True)
class Power(Step):
    """Power: p = p ^ a; above 1 it lowers uncertain predictions most.

    Babych 2025 takes 1.5 to 1.8 for pseudo-labels.
    """

    a: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, "post: power", "a")

    def apply(self, windows: WindowPredictions, state: Any) -> np.ndarray:
        del state
        raised: np.ndarray = windows.probabilities.astype(np.float64) ** self.a
        return raised


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature(Step):
    """Temperature: logits / t; below 1 it sharpens, above 1 it flattens.

    sigmoid: p = p^(1/t) / (p^(1/t) + (1 - p)^(1/t)). softmax: p = p^(1/t), rows brought to the sum
    that they had. Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """

    t: float = 1.0
    output: str = SIGMOID

    def __post_init__(self) -> None:
        check_positive(self, "post: temperature", "t")
        check_choice(self, "post: temperature", "output", (SIGMOID, SOFTMAX))
        if self.output == SOFTMAX and self.only:
            raise ConfigError(
                "post: temperature: output=softmax is of all classes of a window: leave out `only`"
            )

    def apply(self, windows: WindowPredictions, state: Any) -> np.ndarray:
        del state
        p_WC = windows.probabilities.astype(np.float64)
        power_WC = p_WC ** (1 / self.t)
        if self.output == SIGMOID:
            sigmoid_WC: np.ndarray = power_WC / (power_WC + (1 - p_WC) ** (1 / self.t))
            return sigmoid_WC
        before_W1 = np.nansum(p_WC, axis=1, keepdims=True)
        after_W1 = np.nansum(power_WC, axis=1, keepdims=True)
        scale_W1 = np.divide(before_W1, after_W1, out=np.ones_like(after_W1), where=after_W1 > 0)
        softmax_WC: np.ndarray = np.minimum(power_WC * scale_W1, 1)
        return softmax_WC
