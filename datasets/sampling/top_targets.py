"""Targets of slices in short, as far as draws depend on them: top classes and largest targets.

    tops = find_top_targets(targets, labels.names, pool, recording_no, eligible=None)

Shapes: M slices, K recordings, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.sampling.shuffle import runs_of
from datasets.slice_source import ranges
from datasets.targets import Targets

EQUAL, MAX_SUM, SLICE_MAX = "equal", "max_sum", "slice_max"
DRAW_RULES = (EQUAL, MAX_SUM, SLICE_MAX)
PIECE = 1 << 15  # slices whose targets are in memory at once
_NOTHING = (np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TopTargets:
    """Top class and largest target of each slice, and sums of the largest of each recording.

    rows int64 [M], increasing; top_class int32 [M], position in `names`, -1 where no target is
    above 0; top_value float32 [M]. first_row int64 [K], increasing, of the recordings; max_sum
    float64 [K], the sum over classes of a recording's largest target.
    """

    names: tuple[str, ...]
    rows: np.ndarray
    top_class: np.ndarray
    top_value: np.ndarray
    first_row: np.ndarray
    max_sum: np.ndarray

    def classes_of(self, rows: np.ndarray) -> np.ndarray:
        """Returns the top classes of rows, int32; -1 for a slice that is not known."""
        return _looked_up(self.rows, self.top_class, rows, missing=-1)

    def values_of(self, rows: np.ndarray) -> np.ndarray:
        """Returns the largest targets of rows, float32; 0 for a slice that is not known."""
        return _looked_up(self.rows, self.top_value, rows, missing=0)

    def sums_of(self, first_row: np.ndarray) -> np.ndarray:
        """Returns `max_sum` of the recordings with these first rows, float64; 0 where unknown."""
        return _looked_up(self.first_row, self.max_sum, first_row, missing=0)

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Returns all of it as arrays, to be hashed."""
        return self.rows, self.top_class, self.top_value, self.first_row, self.max_sum


def find_top_targets(
    targets: Targets,
    names: Sequence[str],
    recordings: pl.DataFrame,
    recording_no: np.ndarray,
    *,
    eligible: np.ndarray | None,
) -> TopTargets:
    """Finds the top targets of all slices of recordings, or of the `eligible` rows among them.

    `recording_no` int64 are the recordings' numbers in `targets`. Works in pieces, so that memory
    does not grow with the number of classes.
    """
    numbers = recording_no[np.argsort(recordings["first_row"].to_numpy())]
    recordings = recordings.sort("first_row")
    first_row = recordings["first_row"].to_numpy()
    num_slices = recordings["num_slices"].to_numpy().astype(np.int64)
    found, max_sum = [], np.zeros(len(numbers))
    for first, stop in runs_of(num_slices, PIECE):
        rows = ranges(first_row[first:stop], num_slices[first:stop])
        owner = np.repeat(np.arange(first, stop), num_slices[first:stop])
        if eligible is not None:
            allowed = np.isin(rows, eligible, assume_unique=True)
            rows, owner = rows[allowed], owner[allowed]
        if not len(rows):
            continue
        values = targets.of(rows, numbers[owner])
        begins = np.flatnonzero(np.diff(owner, prepend=-1))
        max_sum[owner[begins]] = np.maximum.reduceat(values, begins).sum(axis=1, dtype=np.float64)
        top_class, top_value = values.argmax(axis=1).astype(np.int32), values.max(axis=1)
        found.append((rows, np.where(top_value > 0, top_class, np.int32(-1)), top_value))
    rows, top_class, top_value = (np.concatenate(one) for one in zip(_NOTHING, *found, strict=True))
    return TopTargets(
        names=tuple(names),
        rows=rows,
        top_class=top_class,
        top_value=top_value,
        first_row=first_row,
        max_sum=max_sum,
    )


def _looked_up(
    keys: np.ndarray, values: np.ndarray, wanted: np.ndarray, *, missing: float
) -> np.ndarray:
    """Returns the value of each wanted key, in the type of `values`; the keys increase."""
    if not len(keys):
        return np.full(len(wanted), missing, values.dtype)
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    found = np.where(keys[place] == wanted, values[place], values.dtype.type(missing))
    return np.asarray(found)
