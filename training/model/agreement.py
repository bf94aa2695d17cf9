"""Agreement of several models on the same rows: how much their order of the rows is the same.

    correlation_BB = rank_correlations(probabilities_BNC)

A member that orders the rows as the others do adds little to their mean, whatever its own score.

Shapes: B models, N rows, C classes.
"""

import numpy as np


def rank_correlations(probabilities_BNC: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each pair of models, float64 [B, B], the mean over classes.

    Of a class count the rows where both models have a number, and the class where both vary; NaN
    where no class is left. Ranks do not depend on the scale of a model, as ROC-AUC does not.
    """
    num_models, _, num_classes = probabilities_BNC.shape
    correlation_BB = np.eye(num_models)
    for one in range(num_models):
        for other in range(one):
            pairs = (
                _correlation(probabilities_BNC[one, :, place], probabilities_BNC[other, :, place])
                for place in range(num_classes)
            )
            found = [value for value in pairs if value is not None]
            mean = float(np.mean(found)) if found else np.nan
            correlation_BB[one, other] = correlation_BB[other, one] = mean
    return correlation_BB


def _correlation(one_N: np.ndarray, other_N: np.ndarray) -> float | None:
    """Spearman's correlation, with mean ranks of ties; None where a model has one value alone."""
    from scipy.stats import rankdata  # half a second, which tables of scores can do without

    known_N = ~(np.isnan(one_N) | np.isnan(other_N))
    if not known_N.any():
        return None
    ranks = [rankdata(values[known_N]) for values in (one_N, other_N)]
    centred = [values - values.mean() for values in ranks]
    spreads = [float(np.sqrt((values**2).sum())) for values in centred]
    if min(spreads) == 0:
        return None
    return float((centred[0] * centred[1]).sum()) / (spreads[0] * spreads[1])
