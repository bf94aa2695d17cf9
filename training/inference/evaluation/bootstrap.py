"""Confidence intervals by bootstrap over recordings, for ROC-AUC and average precision.

Windows of a recording are alike, so recordings are drawn with replacement, not windows (cluster
bootstrap; Efron and Tibshirani 1993). A draw is a weight of each recording, the number of times
that it was drawn; both scores are computed with weights, all draws of a class at once.

Shapes: D draws, N windows, G groups of windows with equal scores, C classes.
"""

import math
from typing import NamedTuple

import numpy as np

MAX_CELLS = 2_000_000  # draws times windows that are held at once
LEVELS = (2.5, 97.5)  # percentiles, of a 95 % interval


class Interval(NamedTuple):
    """Lower and upper end; NaN where there is none."""

    low: float
    high: float


class ClassDraws(NamedTuple):
    """Scores of each draw, float64 [D, C]; NaN where a class has no positive, or no negative."""

    roc_auc: np.ndarray
    average_precision: np.ndarray


class Scored(NamedTuple):
    """Windows with their truth; recordings are numbered from 0 on."""

    positives_NC: np.ndarray  # bool
    probabilities_NC: np.ndarray
    recording_no_N: np.ndarray  # int64


def bootstrap_classes(scored: Scored, *, num_draws: int, seed: int) -> ClassDraws:
    """Scores of all classes in `num_draws` resamplings of the recordings; none of a single one."""
    positives_NC, probabilities_NC, recording_no_N = scored
    num_recordings = int(recording_no_N.max(initial=-1)) + 1
    if num_recordings < 2:  # every draw would be the same
        num_draws = 0
    generator = np.random.default_rng(seed)
    shares = np.full(num_recordings, 1 / max(1, num_recordings))
    weights_DR = generator.multinomial(num_recordings, shares, size=num_draws)
    num_classes = positives_NC.shape[1]
    draws = ClassDraws(*(np.full((num_draws, num_classes), math.nan) for _ in range(2)))
    size = max(1, MAX_CELLS // max(1, len(positives_NC)))
    for place in np.flatnonzero(positives_NC.any(0)):
        for begin in range(0, num_draws, size):
            some = slice(begin, begin + size)
            areas, precisions = weighted_scores(
                positives_NC[:, place],
                probabilities_NC[:, place],
                weights_DR[some][:, recording_no_N],
            )
            draws.roc_auc[some, place] = areas
            draws.average_precision[some, place] = precisions
    return draws


def weighted_scores(
    positive_N: np.ndarray, scores_N: np.ndarray, weights_DN: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """ROC-AUC and average precision of a class under several weights of the windows, [D] each.

    With weights of 1 they are those of scikit-learn; NaN without weight of positives, or negatives.
    """
    order = np.argsort(scores_N, kind="stable")
    scores = scores_N[order]
    first = np.flatnonzero(np.append(True, scores[1:] > scores[:-1]))
    weights = weights_DN[:, order].astype(np.float64)
    positive_DG = np.add.reduceat(weights * positive_N[order], first, axis=1)
    negative_DG = np.add.reduceat(weights * ~positive_N[order], first, axis=1)
    positive_D, negative_D = positive_DG.sum(1), negative_DG.sum(1)
    below_DG = np.cumsum(negative_DG, axis=1) - negative_DG / 2
    areas_D = _divide((positive_DG * below_DG).sum(1), positive_D * negative_D)
    found_DG = np.cumsum(positive_DG[:, ::-1], axis=1)[:, ::-1]
    wrong_DG = np.cumsum(negative_DG[:, ::-1], axis=1)[:, ::-1]
    precision_DG = found_DG / (found_DG + wrong_DG).clip(1e-12)
    return areas_D, _divide((positive_DG * precision_DG).sum(1), positive_D)


def _divide(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.divide(values, by, out=np.full(len(values), math.nan), where=by > 0)
    return shares


def macro_interval(values_DC: np.ndarray) -> Interval:
    """The interval of the mean over the classes that a draw defines."""
    defined_DC = ~np.isnan(values_DC)
    num_D = defined_DC.sum(1)
    means_D = np.where(defined_DC, values_DC, 0).sum(1)[num_D > 0] / num_D[num_D > 0]
    return interval(means_D)


def interval(values_D: np.ndarray) -> Interval:
    """The middle 95 % of the draws that are defined."""
    defined = values_D[~np.isnan(values_D)]
    if len(defined) < 2:
        return Interval(math.nan, math.nan)
    return Interval(*(float(end) for end in np.percentile(defined, LEVELS)))
