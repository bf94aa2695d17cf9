"""Candidates of an epoch: the rows that `sampling.where` and the targets leave to draw from.

A condition on columns of recordings alone filters recordings. One that also names columns of the
slice index (`NOT silent AND max_db > -60`) filters slices; a recording without any is dropped. The
candidates of n recordings are then runs of one array of rows; without such a condition they are
all rows of the recordings, and no array is stored.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.slice_source import ranges, select_recordings
from storage.errors import ConfigError
from storage.read.sql import columns_of, filtered


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Slices of n recordings that may be drawn; each recording has at least one.

    begin, count int64 [n]: start and number of a recording's candidates in `rows` (int64,
    increasing) or, where that is None, among all rows.
    """

    recordings: pl.DataFrame
    begin: np.ndarray
    count: np.ndarray
    rows: np.ndarray | None = None

    @classmethod
    def all_of(cls, recordings: pl.DataFrame) -> "Candidates":
        """Takes all slices of recordings."""
        count = recordings["num_slices"].to_numpy().astype(np.int64)
        return cls(recordings=recordings, begin=recordings["first_row"].to_numpy(), count=count)

    def row_of(self, planned_no: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Returns the row of the chosen-th candidate of each recording, int64 [n]."""
        return self.row_at(self.begin[planned_no] + chosen)

    def row_at(self, place: np.ndarray) -> np.ndarray:
        """Returns the rows of places that count as `begin` does, int64 [n]."""
        return place if self.rows is None else np.asarray(self.rows[place])

    def sorted_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows int64 [m], increasing, and where each recording's begin in them, int64 [n].

        All candidates are among the rows; those of other recordings may be, too.
        """
        if self.rows is not None:
            return self.rows, self.begin
        order = np.argsort(self.begin, kind="stable")
        start = np.empty(len(order), np.int64)
        start[order] = np.cumsum(self.count[order]) - self.count[order]
        return ranges(self.begin[order], self.count[order]), start

    def lines_of(self, slice_index: pl.DataFrame) -> pl.DataFrame:
        """Returns the lines of the slice index that are candidates, sorted by row."""
        index = slice_index if slice_index["row"].is_sorted() else slice_index.sort("row")
        if self.rows is None:
            return index
        return index[np.searchsorted(index["row"].to_numpy(), self.rows)]


def find_candidates(
    recordings: pl.DataFrame,
    where: str | None,
    slice_index: pl.DataFrame | None,
    eligible: np.ndarray | None,
) -> Candidates:
    """Finds the rows of `recordings` that fulfil `where`, out of `eligible` if given (int64).

    Raises ConfigError where the condition is invalid, or leaves nothing.
    """
    rows = eligible
    if where is not None and names_slices(where, recordings):
        if slice_index is None:
            raise ConfigError(f"sampling.where={where!r} names columns of slices: give slice_index")
        chosen = _rows_where(recordings, slice_index, where)
        rows = chosen if rows is None else np.intersect1d(rows, chosen, assume_unique=True)
    elif where is not None:
        recordings = select_recordings(recordings, where=where)
    first_row = recordings["first_row"].to_numpy()
    num_slices = recordings["num_slices"].to_numpy().astype(np.int64)
    if rows is None:
        return Candidates(recordings=recordings, begin=first_row, count=num_slices)
    begin, end = np.searchsorted(rows, [first_row, first_row + num_slices])
    held = end > begin
    if not held.any():
        raise ConfigError(
            f"none of the slices of {len(recordings)} recordings is left by "
            f"sampling.where={where!r}" + (" and the targets" if eligible is not None else "")
        )
    return Candidates(
        recordings=recordings.filter(held), begin=begin[held], count=(end - begin)[held], rows=rows
    )


def names_slices(where: str, recordings: pl.DataFrame) -> bool:
    """True where a condition names a column that recordings do not have."""
    return not columns_of(where, "sampling.where", recordings.columns) <= set(recordings.columns)


def _rows_where(recordings: pl.DataFrame, slice_index: pl.DataFrame, where: str) -> np.ndarray:
    """Returns the rows of recordings for which a condition on both tables holds, increasing."""
    names = columns_of(where, "sampling.where")
    of_recordings = sorted(names & set(recordings.columns))
    of_slices = sorted(names - set(of_recordings) - {"row"})
    unknown = [name for name in of_slices if name not in slice_index.columns]
    if unknown:
        columns = sorted({*recordings.columns, *slice_index.columns})
        raise ConfigError(
            f"sampling.where={where!r}: there is no column {unknown[0]}; recordings and slices "
            f"have {', '.join(columns)}"
        )
    index = slice_index.select("row", *of_slices).sort("row")
    table = recordings.select("first_row", "num_slices").with_row_index("line").sort("first_row")
    row, first_row = index["row"].to_numpy(), table["first_row"].to_numpy()
    number = np.searchsorted(first_row, row, side="right") - 1
    inside = (number >= 0) & (row < (first_row + table["num_slices"].to_numpy())[number])
    lines = table["line"].to_numpy()[number[inside]]
    joined = index.filter(inside)
    if of_recordings:
        joined = joined.hstack(recordings[of_recordings][lines])
    try:
        return filtered(joined, where)["row"].to_numpy()
    except pl.exceptions.PolarsError as error:
        reason = str(error).split(";")[0]
        raise ConfigError(
            f"sampling.where={where!r} is not a valid condition ({reason})"
        ) from error
