"""Candidates of an epoch: the rows that `sampling.where` and the targets leave to draw from.

A condition on columns of recordings alone filters recordings. One that also names columns of the
slice index (`NOT silent AND max_db > -60`) filters slices; a recording without any is dropped. The
candidates of n recordings are then runs of one array of rows; without such a condition they are
all rows of the recordings, and no array is stored.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.sampling.config import SamplingConfig
from datasets.sampling.user_functions import is_user_function
from datasets.slice_source import (
    find_recordings,
    pieces,
    ranges,
    row_bounds,
    select_recordings,
)
from datasets.threads import map_in_threads
from storage.errors import ConfigError
from storage.read.sql import columns_of, filtered, is_rowwise

BY_LEVEL = ("energy", "best_of")  # slice choices that read the slice index
PIECE = 2**20  # slices on which a condition is tried at once


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
    if not held.all():  # a copy
        recordings, begin, end = recordings.filter(held), begin[held], end[held]
    return Candidates(recordings=recordings, begin=begin, count=end - begin, rows=rows)


def needs_slice_index(config: SamplingConfig, recordings: pl.DataFrame) -> bool:
    """True where an `EpochPlanner` of this config needs the slice index."""
    if config.slice_choice in BY_LEVEL or is_user_function(config.slice_choice):
        return True
    return config.where is not None and names_slices(config.where, recordings)


def slice_columns(config: SamplingConfig, recordings: pl.DataFrame) -> list[str] | None:
    """Returns the columns of the slice index that a planner of this config needs; None: all."""
    choice = config.slice_choice
    if choice == "energy" or is_user_function(choice):
        return None
    wanted = {"row"} | ({config.best_of_by} if choice == "best_of" else set())
    if config.where is not None:
        wanted |= columns_of(config.where, "sampling.where") - set(recordings.columns)
    return sorted(wanted)


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
    index = slice_index.select("row", *of_slices)
    if not index["row"].is_sorted():
        index = index.sort("row")
    try:
        return _rows_found(recordings, index, of_recordings, where)
    except pl.exceptions.PolarsError as error:
        reason = str(error).split(";")[0]
        raise ConfigError(
            f"sampling.where={where!r} is not a valid condition ({reason})"
        ) from error


def _rows_found(
    recordings: pl.DataFrame, index: pl.DataFrame, of_recordings: list[str], where: str
) -> np.ndarray:
    """Tries a condition on slices, piece by piece where that is the same; their rows, int64."""
    table = recordings.select("first_row", "num_slices").with_row_index("line").sort("first_row")
    bounds, lines = row_bounds(table), table["line"].to_numpy()
    most = PIECE if is_rowwise(where) else max(1, len(index))

    def rows_in(piece: slice) -> np.ndarray:
        part = index[piece]
        no, inside = find_recordings(part["row"].to_numpy(), *bounds)
        part = part.filter(inside)
        if of_recordings:
            part = part.hstack(recordings[of_recordings][lines[no[inside]]])
        return filtered(part, where)["row"].to_numpy()

    found, number = np.empty(len(index), np.int64), 0  # as much memory as is written to
    for rows in map_in_threads(rows_in, [*pieces(len(index), most)] or [slice(0, 0)]):
        found[number : number + len(rows)] = rows
        number += len(rows)
    return found[:number]
