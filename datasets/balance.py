"""How often each recording is drawn: class balance and weights by exact resampling.

Class c with mass m_c gets a share of the epoch in proportion to m_c ** (1 - exponent): 0 leaves
the classes as they are, 0.5 (`sqrt`) lifts the rare ones, 1 (`uniform`) makes all equal.
"""

import numpy as np

from datasets.randomness import random_unit
from storage.errors import ConfigError

EXPONENTS = {"none": 0.0, "sqrt": 0.5, "uniform": 1.0}


def balance_exponent(balance: str) -> float:
    """The exponent behind a name or a number; raises ConfigError on anything else."""
    try:
        exponent = EXPONENTS[balance] if balance in EXPONENTS else float(balance)
    except ValueError:
        exponent = -1.0
    if not 0 <= exponent <= 1:
        raise ConfigError(
            f"sampling.balance={balance} is none of {', '.join(EXPONENTS)}, nor an exponent "
            "between 0 (as it is) and 1 (uniform)"
        )
    return exponent


def expected_draws(mass: np.ndarray, classes: np.ndarray, exponent: float) -> np.ndarray:
    """How often each recording is drawn on average, float64 [n].

    `mass` [n] is how often it would be drawn without balance, weights included; `classes`
    int [n]. Within a class, recordings keep their proportions; the sum stays that of `mass`.
    """
    class_mass = np.bincount(classes, weights=mass)
    share = np.zeros_like(class_mass)
    held = class_mass > 0
    share[held] = class_mass[held] ** (1 - exponent)
    share *= mass.sum() / share.sum()
    factor = np.divide(share, class_mass, out=np.zeros_like(share), where=held)
    return np.asarray(mass * factor[classes])


def resample(expected: np.ndarray, classes: np.ndarray, bits: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers of draws, int64 [n], with sum `total`, each less than one from `expected`.

    Systematic resampling: the recordings lie on a line in lengths of their expected draws, class
    by class and in random order within (`bits`, uint64 [n]); a comb of step one, at a random
    start, counts each. So every class, too, gets its expectation to within one.
    """
    order = np.lexsort((bits, classes))
    edges = np.cumsum(expected[order])
    edges *= total / edges[-1]
    start = random_unit(np.bitwise_xor.reduce(bits))
    teeth = np.minimum(np.floor(edges + start), total)
    teeth[-1] = total  # whatever rounding did to the last edge
    draws = np.empty(len(expected), np.int64)
    draws[order] = np.diff(teeth, prepend=0.0)
    return draws
