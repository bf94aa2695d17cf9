"""Platt scaling with a prior: logistic regression of a class on the logit of its score.

    sum_i BCE(y_i, sigmoid(a x_i + b)) + k/2 ((a - a0)^2 + (b - b0)^2),  x = logit(p)

is minimised, the maximum a posteriori with a normal prior of variance 1/k about (a0, b0): a class
with few slices keeps close to it, one with many goes its own way. The prior takes the place of the
smoothed targets of Platt (Probabilistic Outputs for Support Vector Machines, 1999).

Shapes: N slices.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

TINY = 1e-6
MAX_STEPS = 50
MAX_BACK = 30  # halvings of a step
CONVERGED = 1e-8


def logits(probabilities: np.ndarray) -> np.ndarray:
    """Log-odds, float64, of probabilities that are clipped to 1e-6 from 0 and 1."""
    clipped = probabilities.astype(np.float64).clip(TINY, 1 - TINY)
    odds: np.ndarray = np.log(clipped) - np.log1p(-clipped)
    return odds


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function, without overflow."""
    half: np.ndarray = 0.5 * (1 + np.tanh(0.5 * x))
    return half


class Platt(NamedTuple):
    """Slope and offset in logits; (1, 0) changes nothing."""

    a: float
    b: float

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64; NaN stays NaN."""
        return sigmoid(self.a * logits(probabilities) + self.b)


def fit_platt(
    classes: Sequence[tuple[np.ndarray, np.ndarray]], prior: Platt, strength: float
) -> Platt:
    """Minimises the sum over classes (x, positive) and the penalty above, by Newton's method."""
    at = np.array(prior, np.float64)
    centre = at.copy()
    value = _loss(classes, at, centre, strength)
    for _ in range(MAX_STEPS):
        step = _newton_step(classes, at, centre, strength)
        for _ in range(MAX_BACK):
            better = _loss(classes, at - step, centre, strength)
            if better <= value:
                break
            step /= 2  # far from the minimum a whole step can go too far
        else:
            break
        at, value = at - step, better
        if np.abs(step).max() < CONVERGED:
            break
    return Platt(float(at[0]), float(at[1]))


def _loss(
    classes: Iterable[tuple[np.ndarray, np.ndarray]],
    at: np.ndarray,
    centre: np.ndarray,
    strength: float,
) -> float:
    total = strength / 2 * float(((at - centre) ** 2).sum())
    for x_N, positive_N in classes:
        z_N = at[0] * x_N + at[1]
        total += float((np.logaddexp(0, z_N) - positive_N * z_N).sum())
    return total


def _newton_step(
    classes: Iterable[tuple[np.ndarray, np.ndarray]],
    at: np.ndarray,
    centre: np.ndarray,
    strength: float,
) -> np.ndarray:
    """The gradient of the loss, multiplied by the inverse of its second derivatives."""
    gradient = strength * (at - centre)
    curvature = strength * np.eye(2)
    for x_N, positive_N in classes:
        q_N = sigmoid(at[0] * x_N + at[1])
        error_N, weight_N = q_N - positive_N, q_N * (1 - q_N)
        gradient += (float(error_N @ x_N), float(error_N.sum()))
        mixed = float(weight_N @ x_N)
        curvature += [[float(weight_N @ (x_N * x_N)), mixed], [mixed, float(weight_N.sum())]]
    step: np.ndarray = np.linalg.solve(curvature, gradient)
    return step
