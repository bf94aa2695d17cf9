"""Thresholds by precision and F1, and the reliability of scores.

Shapes: N slices.
"""

import math
from typing import NamedTuple

import numpy as np

NUM_BINS = 10  # of a reliability diagram
P90, P95, F1 = "threshold_p90", "threshold_p95", "threshold_f1"
THRESHOLDS = (P90, P95, F1)


class ClassThresholds(NamedTuple):
    """Lowest scores with precision 0.9 and 0.95, and the one of the best F1; NaN: there is none."""

    p90: float
    p95: float
    f1: float


def find_thresholds(scores_N: np.ndarray, positive_N: np.ndarray) -> ClassThresholds:
    """Finds the thresholds of a class; a slice is a detection where its score is at least that.

    Precision is that of the slices given; the lowest score that reaches it has the highest recall.
    """
    if not positive_N.any():
        return ClassThresholds(math.nan, math.nan, math.nan)
    order = np.argsort(-scores_N, kind="stable")
    scores, right = scores_N[order], np.cumsum(positive_N[order])
    last = np.append(scores[1:] < scores[:-1], True)  # of those with equal scores
    number = np.arange(1, len(scores) + 1)[last]
    scores, right = scores[last].astype(np.float64), right[last]
    precision = right / number
    f1 = 2 * right / (number + positive_N.sum())
    reached = [scores[precision >= least] for least in (0.9, 0.95)]
    p90, p95 = (float(found[-1]) if len(found) else math.nan for found in reached)
    return ClassThresholds(p90, p95, float(scores[f1.argmax()]))


def expected_calibration_error(scores: np.ndarray, positives: np.ndarray) -> float:
    """Mean distance of score and share of positives over ten bins of equal width, by their sizes.

    Naeini et al., AAAI 2015.
    """
    centres, shares, counts = reliability(scores, positives)
    return float((np.abs(centres - shares) * counts).sum() / max(1, counts.sum()))


def reliability(
    scores: np.ndarray, positives: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean score, share of positives and size of each bin that has any, in ten of equal width."""
    scores, positives = scores.ravel(), positives.ravel()
    known = ~np.isnan(scores)
    scores, positives = scores[known].astype(np.float64), positives[known]
    bins = np.minimum((scores * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    used = counts > 0
    means = np.bincount(bins, scores, NUM_BINS)[used] / counts[used]
    shares = np.bincount(bins, positives, NUM_BINS)[used] / counts[used]
    return means, shares, counts[used]
