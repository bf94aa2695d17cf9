"""Floor and ceiling of the draws of a class in an epoch.

A class that is expected to come less often than `sampling.min_draws_per_class` comes exactly so
often, and one above `sampling.max_draws_per_class` exactly that often; all others as often as
expected, rounded. So the epoch gets longer or shorter, but every epoch is equally long, and each
class comes equally often in each. Recordings without a primary label have no class to count.
"""

import numpy as np

from datasets.randomness import random_unit, sort_bits

START_STEPS = 2**20  # of the random start, so that sums with whole numbers are exact


def limited_draws(
    expected: np.ndarray, classes: np.ndarray, limited_C: np.ndarray, least: int, most: int | None
) -> np.ndarray:
    """Returns the draws of each class in every epoch, int64 [C].

    expected float64 [n] are draws of recordings, classes int [n] theirs; limited_C bool: those
    that floor and ceiling hold for. A class that is never drawn stays so.
    """
    expected_C = np.bincount(classes, weights=expected, minlength=len(limited_C))
    drawn_C = expected_C > 0
    draws_C = np.maximum(np.floor(expected_C + 0.5), drawn_C).astype(np.int64)
    limits_C = np.clip(draws_C, least, most)
    return np.asarray(np.where(drawn_C & limited_C, limits_C, draws_C))


def resample_classes(
    expected: np.ndarray,
    classes: np.ndarray,
    strata: np.ndarray,
    bits: np.ndarray,
    draws_C: np.ndarray,
) -> np.ndarray:
    """Rounds expected draws by systematic resampling inside each class: int64 [n].

    Class c gets exactly draws_C[c]; each recording, and each stratum of a class (`strata` int [n],
    such as numbers of sources), is less than one away from its expectation, scaled to that sum.
    `bits` uint64 [n] decide the order in a stratum.
    """
    order = sort_bits(bits)
    order = order[np.lexsort((strata[order], classes[order]))]  # stable
    own_class = classes[order]
    expected_C = np.bincount(classes, weights=expected, minlength=len(draws_C))
    factor_C = np.divide(draws_C, expected_C, out=np.zeros(len(draws_C)), where=expected_C > 0)
    edges = np.cumsum(expected[order] * factor_C[own_class])
    last = np.flatnonzero(np.diff(own_class, append=-1))  # of each class that is there
    end = np.cumsum(draws_C[own_class[last]])
    edges = np.minimum(edges, np.repeat(end, np.diff(last, prepend=-1)))
    edges[last] = end  # whole numbers, where sums are rounded
    xor: np.ufunc = np.bitwise_xor  # its own type in the stubs of numpy 2.5 lacks this reduce
    start = (np.floor(random_unit(xor.reduce(bits)) * START_STEPS) + 0.5) / START_STEPS
    draws = np.empty(len(expected), np.int64)
    draws[order] = np.diff(np.floor(edges + start), prepend=0.0)
    return draws
