"""Targets of slices: the labels of their recordings, or soft targets from a file.

    table = read_soft_table("preds/exp_001/oof.parquet")
    slices = match_slices(table, recordings)
    targets = Targets(labels.targets(recordings, 0.5), [(table.values_of(labels), slices)])
    targets.of(rows, recording_no)

A file of soft targets is a Parquet table with `recording_id`, columns `p_<label>` with values from
0 to 1, and, for slices, `slice_no` or `row` (in the source itself, not the mix), as in the
out-of-fold predictions of an experiment. Without either, a line holds for a whole recording.
Lines for recordings that the source lacks are ignored; a class without a column is 0. A column
`source` names the source of a mix.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl

from datasets.labels import Labels
from datasets.slice_source import ID_IN_SOURCE, SOURCE, ranges, row_bounds, rows_in_source
from storage.errors import ConfigError

PREFIX = "p_"


class KeyedLines(Protocol):
    """Lines of a file that are joined with slices; `title` begins messages about it.

    `keys` are recording_id, source if there is one, and the column `number`: slice_no, row, or None
    where a line holds for a whole recording.
    """

    @property
    def title(self) -> str: ...
    @property
    def keys(self) -> pl.DataFrame: ...
    @property
    def number(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SoftTable:
    """Lines of one file: keys of their slices, and `values` float32 [lines, names]."""

    path: str
    keys: pl.DataFrame  # recording_id, source if there is one, and the column `number`
    number: str | None  # slice_no or row; None where a line holds for a whole recording
    names: tuple[str, ...]
    values: np.ndarray

    @property
    def title(self) -> str:
        """Name of the file in messages."""
        return f"targets {self.path}"

    def values_of(self, labels: Labels) -> np.ndarray:
        """Returns float32 [lines, C], the columns in the order of `labels`."""
        column = {name: number for number, name in enumerate(self.names)}
        values = np.zeros((len(self.values), len(labels)), np.float32)
        for class_no, name in enumerate(labels.names):
            if name in column:
                values[:, class_no] = self.values[:, column[name]]
        return values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SoftSlices:
    """Slices with soft targets: rows int64 [n], increasing; line int32 [n] of their table."""

    rows: np.ndarray
    line: np.ndarray

    def counts(self, recordings: pl.DataFrame) -> np.ndarray:
        """Counts the slices of each recording that have soft targets, int64."""
        begin, end = np.searchsorted(self.rows, row_bounds(recordings))
        return np.asarray(end - begin)

    def but(self, rows: np.ndarray) -> "SoftSlices":
        """Leaves out the slices of int64 rows."""
        left = ~np.isin(self.rows, rows)
        return SoftSlices(rows=self.rows[left], line=self.line[left])


class Targets:
    """Targets of all slices of a source.

    `hard` float32 [recordings, C] holds for slices without soft targets; `soft` are lines of files,
    float32 [lines, C], with their slices. Takes memory for those lines, and 12 bytes for each such
    slice. `no_call` is the number of the class of slices in which nothing calls.
    """

    def __init__(
        self,
        hard: np.ndarray,
        soft: Sequence[tuple[np.ndarray, SoftSlices]] = (),
        *,
        no_call: int | None = None,
    ) -> None:
        self.hard = np.ascontiguousarray(hard, np.float32)
        self._no_call = no_call
        self._values = np.concatenate(
            [np.empty((0, self.hard.shape[1]), np.float32), *(values for values, _ in soft)]
        )
        starts = np.cumsum([0, *(len(values) for values, _ in soft)])[:-1]
        rows = [slices.rows for _, slices in soft]
        lines = [slices.line + start for (_, slices), start in zip(soft, starts, strict=True)]
        all_rows = np.concatenate([np.empty(0, np.int64), *rows])
        order = np.argsort(all_rows)
        self._rows = all_rows[order]
        self._line = np.concatenate([np.empty(0, np.int64), *lines]).astype(np.int32)[order]

    def of(self, rows: np.ndarray, recording_no: np.ndarray) -> np.ndarray:
        """Returns float32 [n, C], from the rows [n] and the recording numbers [n] of slices."""
        targets: np.ndarray = self.hard[recording_no]
        if len(self._rows):
            index = np.searchsorted(self._rows, rows).clip(max=len(self._rows) - 1)
            found = self._rows[index] == rows
            targets[found] = self._values[self._line[index[found]]]
        return targets

    def replaced(self, rows: np.ndarray, values: np.ndarray) -> "Targets":
        """Returns targets with those of int64 rows [n] replaced by values float32 [n, C]."""
        kept = SoftSlices(rows=self._rows, line=self._line).but(rows)
        new = SoftSlices(rows=rows, line=np.arange(len(rows), dtype=np.int32))
        soft = [(self._values, kept), (values, new)]
        return Targets(self.hard, soft, no_call=self._no_call)

    def has_own(self, rows: np.ndarray) -> np.ndarray:
        """True for the int64 rows [n] that have targets of their own, bool [n]."""
        return np.isin(rows, self._rows)

    def of_chunks(
        self, rows_BK: np.ndarray, present_BK: np.ndarray, recording_no: np.ndarray
    ) -> np.ndarray:
        """Returns float32 [B, C]: the maximum over the slices of each chunk that are `present`.

        Of the class `no_call` it is the minimum: nothing calls in a chunk only where nothing calls
        in any of its slices.
        """
        if not len(self._rows):
            return np.asarray(self.hard[recording_no])
        targets = np.full((len(rows_BK), self.hard.shape[1]), -np.inf, np.float32)
        quiet = np.full(len(rows_BK), np.inf, np.float32)
        for rows, present in zip(rows_BK.T, present_BK.T, strict=True):
            own = self.of(rows[present], recording_no[present])
            targets[present] = np.maximum(targets[present], own)
            if self._no_call is not None:
                quiet[present] = np.minimum(quiet[present], own[:, self._no_call])
        if self._no_call is not None:
            targets[:, self._no_call] = quiet
        return targets


def read_soft_table(path: str) -> SoftTable:
    """Reads a file of soft targets; raises ConfigError, naming it, where it is not one."""
    try:
        frame = pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"targets {path}: {str(error).splitlines()[0]}") from error
    columns = [name for name in frame.columns if name.startswith(PREFIX)]
    if "recording_id" not in frame.columns or not columns:
        raise ConfigError(
            f"targets {path} needs recording_id and p_<label> columns; it has "
            f"{', '.join(frame.columns[:10])}"
        )
    number = next((name for name in ("slice_no", "row") if name in frame.columns), None)
    wanted = ("recording_id", SOURCE, number)
    keys = frame.select(name for name in wanted if name in frame.columns)
    if keys.is_duplicated().any():
        first = keys.filter(keys.is_duplicated()).row(0)
        raise ConfigError(f"targets {path} has several lines for {first}: average them first")
    values = (
        frame.select(pl.col(columns).cast(pl.Float32, strict=False)).fill_null(np.nan).to_numpy()
    )
    if not ((values >= 0) & (values <= 1)).all():
        raise ConfigError(f"targets {path}: p_<label> must lie between 0 and 1 in every line")
    return SoftTable(
        path=path,
        keys=keys,
        number=number,
        names=tuple(name.removeprefix(PREFIX) for name in columns),
        values=np.ascontiguousarray(values),
    )


def match_slices(table: KeyedLines, recordings: pl.DataFrame) -> SoftSlices:
    """Joins a table with the slices of one source's recordings.

    A table with a column `source` (predictions of a mix) has the ids of the mix, and only its lines
    of these sources count; any other has the ids of the source itself. Raises ConfigError where a
    line names a slice that its recording does not have, or no line matches.
    """
    names = ["recording_id"]
    known = recordings.select("recording_id", "first_row", "num_slices")
    if SOURCE in table.keys.columns and SOURCE in recordings.columns:
        names.append(SOURCE)
        known = known.with_columns(recordings[SOURCE])
    elif ID_IN_SOURCE in recordings.columns:
        known = known.with_columns(
            recording_id=recordings.select(pl.coalesce(ID_IN_SOURCE, "recording_id")).to_series()
        )
    found = (
        table.keys.with_row_index("line")
        .join(known, on=names)
        .cast({"line": pl.Int32, "num_slices": pl.Int64})
    )
    if found.is_empty():
        raise ConfigError(
            f"{table.title}: none of its {len(table.keys)} lines matches one of the "
            f"{len(recordings)} recordings of the source, by {' and '.join(names)}"
        )
    line, first_row = found["line"].to_numpy(), found["first_row"].to_numpy()
    num_slices = found["num_slices"].to_numpy()
    if table.number is not None:
        rows = first_row + _slice_no(table, table.number, found)
    else:
        rows = ranges(first_row, num_slices)
        line = np.repeat(line, num_slices)
    order = np.argsort(rows)
    return SoftSlices(rows=rows[order], line=line[order])


def _slice_no(table: KeyedLines, key: str, found: pl.DataFrame) -> np.ndarray:
    """Returns the slice number, within its recording, of each line, int64."""
    numbers = found[key].cast(pl.Int64).to_numpy()
    if key == "row":
        numbers = numbers - rows_in_source(found["first_row"].to_numpy())
    num_slices = found["num_slices"].to_numpy()
    wrong = (numbers < 0) | (numbers >= num_slices)
    if wrong.any():
        first = found.filter(wrong).row(0, named=True)
        raise ConfigError(
            f"{table.title}: {wrong.sum()} lines name slices that their recordings do not "
            f"have, such as {key} {first[key]} of {first['recording_id']}: they belong to another "
            "store"
        )
    return np.asarray(numbers)
