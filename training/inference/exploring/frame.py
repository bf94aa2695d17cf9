"""All slices of a store in memory, with the columns of their recordings and of results.

    frame = SliceFrame(store, more)
    frame.take(places, ["row", "primary_label", "loss"])

A place is a position in the slice index, which is sorted by row. Columns of recordings are kept
once per recording. Shapes: N slices, R recordings, n places.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import polars as pl

from storage.errors import ConfigError
from storage.store import Store

_TEXT, _NUMBER, _FLAG, _LIST = "text", "number", "flag", "list"
_HIDDEN = ("crc32c", "first_row", "num_slices", "status", "duplicate_of", "content_hash")
START_DIGITS = 3  # of a start in s, to tell slices of a recording apart


class SliceFrame:
    """Slices of a store by place. `more`: columns of results, a line per slice."""

    def __init__(self, store: Store, more: pl.DataFrame) -> None:
        self.slice_s = store.recipe.slice_s
        self._index = store.slice_index().hstack(more)
        self._recordings = store.recordings()
        self.lazy = store.slice_table(more)
        self.rows = self._index["row"].to_numpy()
        first_row = self._recordings["first_row"].to_numpy()
        number = np.searchsorted(first_row, self.rows, side="right") - 1
        self.recording_no = number.astype(np.int32)  # [N]

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.rows)

    @property
    def num_recordings(self) -> int:
        """Number of recordings."""
        return len(self._recordings)

    @cached_property
    def columns(self) -> dict[str, pl.DataType]:
        """Columns that are shown, with their types."""
        own = {name: kind for name, kind in self._index.schema.items() if name not in _HIDDEN}
        others = {
            name: kind
            for name, kind in self._recordings.schema.items()
            if name not in own and name not in _HIDDEN
        }
        return own | others

    def kind(self, name: str) -> str:
        """text, number, flag or list; ConfigError where there is no such column."""
        return kind_of(self.dtype(name))

    def dtype(self, name: str) -> pl.DataType:
        """The type of a column; ConfigError where there is none of that name."""
        if name not in self.columns:
            raise ConfigError(f"there is no column {name!r}; there are {', '.join(self.columns)}")
        return self.columns[name]

    def is_of_recordings(self, name: str) -> bool:
        """True where all slices of a recording share the value."""
        return name == "recording_id" or name not in self._index.columns

    def of_recordings(self, name: str) -> pl.Series:
        """A column of the recordings, [R]."""
        return self._recordings[name]

    def take(self, places: np.ndarray, names: Sequence[str] | None = None) -> pl.DataFrame:
        """Columns of the slices at places, in that order."""
        names = list(self.columns) if names is None else names
        own = [name for name in names if name in self._index.columns]
        others = [name for name in names if name not in self._index.columns]
        found = self._index[own][places].get_columns() if own else []
        if others:
            found += self._recordings[others][self.recording_no[places]].get_columns()
        return pl.DataFrame(found)[list(names)]

    def values(self, name: str, places: np.ndarray) -> pl.Series:
        """A column of the slices at places."""
        if name in self._index.columns:
            return self._index[name].gather(places)
        return self._recordings[name].gather(self.recording_no[places])

    def numbers(self, name: str) -> np.ndarray:
        """A numeric column of all slices, float64 [N]; NaN for none."""
        if self.kind(name) not in (_NUMBER, _FLAG):
            raise ConfigError(f"the column {name} has no numbers")
        everywhere = np.arange(len(self))
        values = self.values(name, everywhere) if name not in self._index.columns else None
        column = self._index[name] if values is None else values
        return np.asarray(column.cast(pl.Float64).fill_null(np.nan).to_numpy())

    def places_of(self, rows: np.ndarray) -> np.ndarray:
        """Places of int64 rows [n]; ConfigError where one is unknown."""
        places = np.searchsorted(self.rows, rows)
        known = places < len(self.rows)
        known[known] = self.rows[places[known]] == rows[known]
        if not known.all():
            raise ConfigError(f"there is no slice with the row {rows[~known][0]}")
        return places

    def recording_places(self, recording_id: str) -> np.ndarray:
        """Places of a recording's slices by start; empty where there is no such recording."""
        number = self._number_of.get(recording_id)
        if number is None:
            return np.zeros(0, np.int64)
        first, last = np.searchsorted(self.recording_no, [number, number + 1])
        return np.arange(first, last)

    def covering(self, recording_id: str, start_s: float, end_s: float) -> int | None:
        """The place of the slice that has most of a span of a recording; None where none has."""
        places = self.recording_places(recording_id)
        if not len(places):
            return None
        begins = self._index["start_s"].gather(places).to_numpy()
        shared_s = np.minimum(begins + self.slice_s, end_s) - np.maximum(begins, start_s)
        best = int(shared_s.argmax())
        return int(places[best]) if shared_s[best] > 0 else None

    def recording(self, recording_id: str) -> dict[str, object]:
        """The columns of a recording; ConfigError where there is none."""
        if recording_id not in self._number_of:
            raise ConfigError(f"there is no recording {recording_id!r} in the store")
        return self._recordings.row(self._number_of[recording_id], named=True)

    @cached_property
    def _number_of(self) -> dict[str, int]:
        return {name: no for no, name in enumerate(self._recordings["recording_id"])}


def kind_of(dtype: pl.DataType) -> str:
    """text, number, flag or list."""
    if isinstance(dtype, pl.List):
        return _LIST
    if dtype == pl.Boolean:
        return _FLAG
    return _NUMBER if dtype.is_numeric() else _TEXT
