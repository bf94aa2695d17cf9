"""Strategies that choose slices of a recording, given its number of draws.

The built-in ones sample systematically: the c draws of a recording are c equal steps apart, from a
random start. So they are distinct while there are enough slices, spread over the recording, and
beyond that each slice comes equally often to within one. `best_of` draws n candidates for each
draw in this way, n times as many in all, and takes the loudest of each draw's own.

A user function is named `module:function`. It gets `Draws` and returns one whole number per
draw, from 0 to the number of slices of its recording; all draws of a recording come together.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
import polars as pl

from datasets.randomness import random_unit
from datasets.sampling.user_functions import is_user_function, load_function
from storage.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Activity:
    """Weights of the slices of n recordings, as one cumulative sum.

    cumulative float64 [m + 1] over all m slices; start int64 [n], the first slice of a recording.
    """

    cumulative: np.ndarray
    start: np.ndarray

    @classmethod
    def of(cls, recordings: pl.DataFrame, slice_index: pl.DataFrame, scale_db: float) -> Self:
        """Computes weights that fall by 1/e per `scale_db` below the recording's loudest slice."""
        if slice_index["max_db"].null_count():
            raise ConfigError(
                "sampling.slice_choice=energy needs max_db, which slices imported from .npy lack: "
                "use random"
            )
        index = slice_index.sort("row")
        loudest = pl.col("max_db").max().over("recording_id")
        weight = index.select(((pl.col("max_db") - loudest) / scale_db).exp())["max_db"].to_numpy()
        start = np.searchsorted(index["row"].to_numpy(), recordings["first_row"].to_numpy())
        return cls.from_weights(weight, start)

    @classmethod
    def from_weights(cls, weight: np.ndarray, start: np.ndarray) -> Self:
        """Sums weights [m] of slices up."""
        cumulative = np.concatenate(([0.0], np.cumsum(weight, dtype=np.float64)))
        return cls(cumulative=cumulative, start=start)

    def times(self, weight: np.ndarray) -> Self:
        """Multiplies each slice's weight by another, [m]."""
        return self.from_weights(np.diff(self.cumulative) * weight, self.start)

    def sums(self, count: np.ndarray) -> np.ndarray:
        """Sums the weights of the first `count` int [n] slices of each recording, float64 [n]."""
        return np.asarray(self.cumulative[self.start + count] - self.cumulative[self.start])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levels:
    """Levels of the slices of n recordings: `of_slice` float32 [m], louder ones are larger.

    start int64 [n] as in `Activity`.
    """

    of_slice: np.ndarray
    start: np.ndarray

    @classmethod
    def of(cls, recordings: pl.DataFrame, slice_index: pl.DataFrame, column: str) -> Self:
        """Reads a column of the slice index; raises ConfigError where slices lack it."""
        if column not in slice_index.columns or slice_index[column].null_count():
            raise ConfigError(
                f"sampling.slice_choice=best_of needs {column} of each slice, which tar shards and "
                "slices imported from .npy may lack: set sampling.best_of_by=max_db, or read the "
                "store"
            )
        index = slice_index.sort("row")
        start = np.searchsorted(index["row"].to_numpy(), recordings["first_row"].to_numpy())
        return cls(of_slice=index[column].to_numpy().astype(np.float32), start=start)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnownSlices:
    """Tables of n recordings and their slices, for a user function.

    `index` has the lines of the slice index, sorted by row; first_line int64 [n] is the first of
    each recording, so `first_line[draws.recording] + chosen` is the line of a slice.
    """

    recordings: pl.DataFrame
    index: pl.DataFrame
    first_line: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """Draws: the draw_no-th of num_draws from a recording of num_slices, all int64 [n].

    `bits` uint64 [n] are random and the same for all draws of one recording in one epoch;
    `recording` [n] is its index in `activity`, `levels` and `slices`. Slices that `where` excludes
    do not count. `best_of`: candidates for a draw, of which the one of the highest level is taken.
    """

    recording: np.ndarray
    num_slices: np.ndarray
    num_draws: np.ndarray
    draw_no: np.ndarray
    bits: np.ndarray
    activity: Activity | None = None
    slices: KnownSlices | None = None
    levels: Levels | None = None
    best_of: int = 1


SliceChoice = Callable[[Draws], np.ndarray]


def choose_evenly(draws: Draws) -> np.ndarray:
    """Chooses slices with equal probability, int64 [n]; `all` is this with a draw per slice."""
    circle = draws.num_slices * draws.num_draws
    start = (draws.bits % circle.astype(np.uint64)).astype(np.int64)
    return np.asarray((start + draws.draw_no * draws.num_slices) % circle // draws.num_draws)


def choose_first(draws: Draws) -> np.ndarray:
    """Chooses the first slices in order, int64 [n]."""
    return np.asarray(draws.draw_no % draws.num_slices)


def choose_randomly(draws: Draws) -> np.ndarray:
    """Chooses slices in proportion to their weights where they have any, int64 [n]."""
    return choose_evenly(draws) if draws.activity is None else choose_active(draws)


def choose_best(draws: Draws) -> np.ndarray:
    """Chooses the loudest of `best_of` candidates of each draw, int64 [n]; ties: the first one.

    The candidates of all draws of a recording are one systematic sample, so no two draws share
    one while there are enough slices.
    """
    if draws.levels is None:
        raise ConfigError(
            "sampling.slice_choice=best_of needs the levels of the slices: give slice_index"
        )
    first = draws.levels.start[draws.recording]
    chosen = np.zeros(len(draws.draw_no), np.int64)
    loudest = np.full(len(chosen), -np.inf, np.float32)
    for number in range(draws.best_of):
        candidate = choose_randomly(
            replace(
                draws,
                num_draws=draws.num_draws * draws.best_of,
                draw_no=draws.draw_no + number * draws.num_draws,
            )
        )
        level = draws.levels.of_slice[first + candidate]
        louder = level > loudest
        chosen[louder], loudest[louder] = candidate[louder], level[louder]
    return chosen


def choose_active(draws: Draws) -> np.ndarray:
    """Chooses slices in proportion to their activity, int64 [n]."""
    if draws.activity is None:
        raise ConfigError(
            "sampling.slice_choice=energy needs the levels of the slices: give slice_index"
        )
    cumulative = draws.activity.cumulative
    begin = draws.activity.start[draws.recording]
    low, high = cumulative[begin], cumulative[begin + draws.num_slices]
    point = low + (random_unit(draws.bits) + draws.draw_no / draws.num_draws) % 1.0 * (high - low)
    chosen = np.searchsorted(cumulative, point, side="right") - 1 - begin
    return np.asarray(np.clip(chosen, 0, draws.num_slices - 1))


SLICE_CHOICES: dict[str, SliceChoice] = {
    "random": choose_randomly,
    "all": choose_evenly,
    "first": choose_first,
    "energy": choose_active,
    "best_of": choose_best,
}
WEIGHABLE = ("random", "energy", "best_of")  # those that heed weights of slices


def find_slice_choice(name: str) -> SliceChoice:
    """Returns the strategy of a name or `module:function`; raises ConfigError if unknown."""
    if name in SLICE_CHOICES:
        return SLICE_CHOICES[name]
    if not is_user_function(name):
        raise ConfigError(
            f"sampling.slice_choice={name} is none of {', '.join(SLICE_CHOICES)}, "
            "nor module:function"
        )
    gives = "an array of one whole number per draw, from 0 to below draws.num_slices"
    function = load_function(name, key="sampling.slice_choice", takes="draws", gives=gives)
    return partial(_user_choice, function, name)


def _user_choice(function: Callable[[Draws], Any], name: str, draws: Draws) -> np.ndarray:
    """Calls a user function and checks its result."""
    returned = function(draws)
    try:
        result = np.asarray(returned)
    except ValueError:  # lists of several lengths
        result = np.empty(0, object)
    if result.shape != draws.draw_no.shape or result.dtype.kind not in "iu":
        raise ConfigError(
            f"sampling.slice_choice={name} must return one whole number for each of "
            f"{len(draws.draw_no)} draws, not {result.dtype} of shape {result.shape}"
        )
    wrong = (result < 0) | (result >= draws.num_slices)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ConfigError(
            f"sampling.slice_choice={name} chose slice {result[first]} of a recording with "
            f"{draws.num_slices[first]} of them"
        )
    return result.astype(np.int64)
