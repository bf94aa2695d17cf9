"""The slices that a store shows, and the place of each, without a table of all of them."""

import numpy as np
import polars as pl


class SliceNumbers:
    """Places of slices by row, where each recording has all rows from its first one on.

    `first_row` int64 [n] increases, `count` int [n]; what this keeps is 8 bytes a recording.
    """

    def __init__(self, first_row: np.ndarray, count: np.ndarray) -> None:
        self._first_row = first_row
        self._ends = np.cumsum(count, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def find(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the places of int64 rows [n], and a mask of those that there are."""
        if not len(self._ends):
            return np.zeros(len(rows), np.int64), np.zeros(len(rows), bool)
        number = np.searchsorted(self._first_row, rows, side="right") - 1
        begins = np.where(number > 0, self._ends[number.clip(1) - 1], 0)
        place = begins + rows - self._first_row[number]
        return place, (number >= 0) & (place < self._ends[number])

    def row_at(self, place: np.ndarray) -> np.ndarray:
        """Returns the rows of places, int64."""
        number = np.searchsorted(self._ends, place, side="right")
        begins = np.where(number > 0, self._ends[number - 1], 0)
        return np.asarray(self._first_row[number] + place - begins)


def live_lines(index: pl.DataFrame, recordings: pl.DataFrame) -> np.ndarray | None:
    """Finds the lines of a part's index that are of live recordings, bool [m].

    `index` has row and recording_id of a part, `recordings` the live ones by `first_row`. None
    where a recording has rows of another, or lacks some.
    """
    rows = index["row"].to_numpy()
    first, count = (recordings[name].to_numpy() for name in ("first_row", "num_slices"))
    low, high = np.searchsorted(first, [rows[0], rows[-1] + 1]) if len(rows) else (0, 0)
    first, count = first[low:high], count[low:high].astype(np.int64)
    begins, ends = np.searchsorted(rows, [first, first + count])
    if not np.array_equal(ends - begins, count):
        return None
    inside = np.zeros(len(rows) + 1, np.int8)
    np.add.at(inside, begins, 1)
    np.add.at(inside, ends, -1)
    covered = np.cumsum(inside[:-1], dtype=np.int8)
    if len(covered) and covered.max() > 1:
        return None
    held: np.ndarray = covered > 0
    ids = recordings["recording_id"][low:high].gather(np.repeat(np.arange(len(count)), count))
    return None if (index["recording_id"].filter(pl.Series(held)) != ids).any() else held
