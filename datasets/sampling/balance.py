"""Class balance: expected draws of each recording, by weights and systematic resampling.

Class c with mass m_c gets a share of the epoch in proportion to m_c ** (1 - exponent): 0 leaves
the classes as they are, 0.5 (`sqrt`) lifts the rare ones, 1 (`uniform`) makes all equal.

A user function is named `module:function`. It gets the table of n recordings and the mass
of each, how often it would be drawn without balance, float64 [n], and returns how often it shall be
drawn, in proportion, [n].
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from datasets.randomness import random_unit, sort_bits
from datasets.sampling.user_functions import is_user_function, load_function
from storage.errors import ConfigError

EXPONENTS = {"none": 0.0, "sqrt": 0.5, "uniform": 1.0}

Balance = Callable[[pl.DataFrame, np.ndarray], np.ndarray]


def find_balance(balance: str) -> Balance | None:
    """Returns the function for a name, an exponent or `module:function`; None for `none`."""
    if is_user_function(balance):
        gives = "an array of one number of at least 0 for each recording"
        takes = "recordings, mass"
        function = load_function(balance, key="sampling.balance", takes=takes, gives=gives)
        return lambda recordings, mass: _checked(function(recordings, mass), mass, balance)
    exponent = balance_exponent(balance)
    if exponent == 0:
        return None
    return lambda recordings, mass: expected_draws(
        mass, text_numbers(recordings["primary_label"]), exponent
    )


def balance_exponent(balance: str) -> float:
    """Parses a name or a number as an exponent; raises ConfigError on anything else."""
    try:
        exponent = EXPONENTS[balance] if balance in EXPONENTS else float(balance)
    except ValueError:
        exponent = -1.0
    if not 0 <= exponent <= 1:
        raise ConfigError(
            f"sampling.balance={balance} is none of {', '.join(EXPONENTS)}, nor an exponent "
            "between 0 (as it is) and 1 (uniform), nor module:function"
        )
    return exponent


def text_numbers(texts: pl.Series) -> np.ndarray:
    """Numbers texts in alphabetical order, int64 [n]; null counts as the empty text."""
    filled = texts.fill_null("")
    names = filled.unique().sort()
    return filled.replace_strict(names, range(len(names)), return_dtype=pl.Int64).to_numpy()


def expected_draws(mass: np.ndarray, classes: np.ndarray, exponent: float) -> np.ndarray:
    """Returns the expected draws of each recording, float64 [n].

    `mass` [n] is the draws without balance, weights included; `classes` int [n]. Within a class,
    recordings keep their proportions; the sum stays that of `mass`.
    """
    class_mass = np.bincount(classes, weights=mass)
    share = np.zeros_like(class_mass)
    held = class_mass > 0
    share[held] = class_mass[held] ** (1 - exponent)
    share *= mass.sum() / share.sum()
    factor = np.divide(share, class_mass, out=np.zeros_like(share), where=held)
    return np.asarray(mass * factor[classes])


def share_out(
    recordings: pl.DataFrame,
    mass: np.ndarray,
    balance: Balance | None,
    weights: Mapping[str, float],
) -> np.ndarray:
    """Returns expected draws, float64 [n]; each source gets its weight's share of the epoch.

    The column `source` names the source of a recording; balance applies inside each source. Raises
    ConfigError where a source with a weight has nothing to draw.
    """
    sources = recordings["source"]
    expected = np.zeros(len(mass))
    total, sum_of_weights = mass.sum(), sum(weights.values())
    for name, weight in weights.items():
        if not weight > 0:
            continue
        inside = (sources == name).to_numpy()
        part = mass[inside]
        if not part.sum() > 0:
            raise ConfigError(
                f"source {name} has weight {weight:g} but no recording to draw: set its weight to 0"
            )
        if balance is not None:
            part = balance(recordings.filter(inside), part)
        expected[inside] = part * (total * weight / sum_of_weights / part.sum())
    return expected


def rating_weights(recordings: pl.DataFrame, weights: Mapping[str, float]) -> np.ndarray:
    """Returns the weight of each recording's rating, float64 [n]; 1 where none is named."""
    if not weights:
        return np.ones(len(recordings))
    if "rating" not in recordings.columns:
        raise ConfigError("sampling.rating_weights needs a column rating in the csv; it has none")
    ratings = recordings["rating"].cast(pl.Float64, strict=False)
    table = {float(rating): weight for rating, weight in weights.items()}
    named = ratings.replace_strict(table, default=1.0, return_dtype=pl.Float64)
    return named.fill_null(1.0).to_numpy()


def check_rating_weights(weights: Mapping[str, float]) -> None:
    """Raises ConfigError unless all are numbers with a weight of at least 0."""
    for rating, weight in weights.items():
        if not 0 <= weight < math.inf or not _is_number(rating):
            raise ConfigError(
                f"sampling.rating_weights: {rating}: {weight} must be a number and a finite weight "
                "of at least 0"
            )


def resample(expected: np.ndarray, classes: np.ndarray, bits: np.ndarray, total: int) -> np.ndarray:
    """Rounds expected draws by systematic resampling: int64 [n] with sum `total`.

    Each recording is a segment as long as its expected draws, class by class and in random order
    within (`bits`, uint64 [n]); draws are the points of a unit grid, with a random start, in the
    segment. So each recording, and each class, is less than one away from its expectation.
    """
    order = sort_bits(bits)
    small = classes.astype(np.min_scalar_type(classes.max()))  # sorted in linear time
    order = order[np.argsort(small[order], kind="stable")]
    edges = np.cumsum(expected[order])
    edges *= total / edges[-1]
    xor: np.ufunc = np.bitwise_xor  # its own type in the stubs of numpy 2.5 lacks this reduce
    start = random_unit(xor.reduce(bits))
    edges += start
    points = np.minimum(np.floor(edges, out=edges), total, out=edges)
    points[-1] = total  # the last edge may be rounded
    draws = np.empty(len(expected), np.int64)
    draws[order] = np.diff(points, prepend=0.0)
    return draws


def _checked(expected: Any, mass: np.ndarray, name: str) -> np.ndarray:
    """Checks the result of a user function, and scales it to the sum of `mass`."""
    try:
        result = np.asarray(expected, np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"sampling.balance={name} must return one number for each of {len(mass)} recordings, "
            f"not {type(expected).__name__} ({error})"
        ) from error
    if result.shape != mass.shape:
        raise ConfigError(
            f"sampling.balance={name} must return one number for each of {len(mass)} recordings, "
            f"not an array of shape {result.shape}"
        )
    if not (np.isfinite(result).all() and (result >= 0).all() and result.sum() > 0):
        raise ConfigError(f"sampling.balance={name} must return numbers of at least 0, not all 0")
    return np.asarray(result * (float(mass.sum()) / float(result.sum())))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
