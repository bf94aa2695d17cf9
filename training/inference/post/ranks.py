"""Ranks within a class over the whole run."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from training.inference.post.step import Step
from training.inference.predictions import ClassTable, WindowPredictions


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank(Step):
    """Rank per class: p = (windows of the run below + half of those equal) / all windows.

    Classes and models that differ in scale become comparable; ROC-AUC of a class stays as it is.
    The first pass holds all probabilities of the run: 4 bytes per window and class.
    """

    needs_run: ClassVar[bool] = True

    def prepare(self, run: Iterable[WindowPredictions], classes: ClassTable) -> np.ndarray:
        """Returns all probabilities of the run [N, C], each class sorted."""
        return sorted_run((windows.probabilities for windows in run), len(classes.labels))

    def apply(self, windows: WindowPredictions, state: np.ndarray) -> np.ndarray:
        return rank_in(windows.probabilities, state)


def sorted_run(parts: Iterable[np.ndarray], num_classes: int) -> np.ndarray:
    """Joins probabilities [W, C] of a run and sorts each class, float32 [N, C]; NaN come last."""
    joined = [np.empty((0, num_classes), np.float32), *parts]
    return np.sort(np.concatenate(joined).astype(np.float32), axis=0)


def rank_in(probabilities_WC: np.ndarray, sorted_NC: np.ndarray) -> np.ndarray:
    """Mid-rank of each probability among those of its class, float64 in [0, 1]; NaN stays NaN."""
    ranks_WC = np.full(probabilities_WC.shape, np.nan)
    for place in range(probabilities_WC.shape[1]):
        known = sorted_NC[:, place]
        known = known[: len(known) - np.isnan(known).sum()]
        values_W = probabilities_WC[:, place].astype(np.float32)
        defined = ~np.isnan(values_W)
        below = np.searchsorted(known, values_W[defined], "left")
        not_above = np.searchsorted(known, values_W[defined], "right")
        ranks_WC[defined, place] = (below + not_above) / (2 * max(1, len(known)))
    return ranks_WC
