"""Reading in spite of damage: a bad slice is read again, then set aside and named."""

import logging
from dataclasses import dataclass
from typing import Self

import numpy as np

from storage.errors import DamageError
from storage.extents import BadExtent, ExtentReader, Extents

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BadSlice:
    """A slice that could not be read, twice: where it lies and why."""

    row: int
    object: str
    offset: int
    reason: str


class CarefulReader:
    """An extent reader that goes on past up to `max_bad` different bad slices.

    It adds them to `bad`, a list that the caller keeps.
    """

    def __init__(self, *, check: bool, max_bad: int, bad: list[BadSlice]) -> None:
        self._extents = ExtentReader(check=check)
        self._max_bad = max_bad
        self._bad = bad

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._extents.close()

    def will_need(self, extents: Extents) -> None:
        """Asks for these slices ahead of `read`."""
        self._extents.will_need(extents)

    def read(self, extents: Extents, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Fills `out` [n, ...]; returns whether each slice is good, bool [n].

        Raises DamageError when more than `max_bad` slices have been bad.
        """
        good = np.ones(len(rows), bool)
        for bad in self._extents.try_read(extents, out):
            place = bad.position
            again = self._extents.try_read(extents[place : place + 1], out[place : place + 1])
            if again:
                good[place] = False
                self._set_aside(again[0], int(rows[place]))
        return good

    def _set_aside(self, extent: BadExtent, row: int) -> None:
        if any(known.row == row for known in self._bad):
            return
        bad = BadSlice(row=row, object=extent.object, offset=extent.offset, reason=extent.reason)
        self._bad.append(bad)
        text = f"row {bad.row} in {bad.object} at byte {bad.offset}: {bad.reason}"
        if len(self._bad) > self._max_bad:
            raise DamageError(
                f"{len(self._bad)} bad slices, more than max_bad={self._max_bad}; the last is "
                f"{text}. Repair what holds it, or raise max_bad to go on without"
            )
        _log.warning("left out: %s", text)
