"""Blending of branches: one table of probabilities from those of several models.

The plain mean; classes that a branch lacks do not count. Shapes: B branches, W windows, C classes.
"""

import numpy as np


def mean_known(values_BWC: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is no NaN, float32 [W, C]; NaN where all are.

    Sums in 64 bits, in the order given.
    """
    if len(values_BWC) == 1:
        return np.asarray(values_BWC[0], np.float32)
    known_BWC = ~np.isnan(values_BWC)
    total_WC = np.where(known_BWC, values_BWC, 0).sum(0, dtype=np.float64)
    count_WC = known_BWC.sum(0)
    with np.errstate(invalid="ignore"):
        return np.asarray(total_WC / count_WC, np.float32)
