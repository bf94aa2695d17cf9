"""Quarantine: retries bad slices, then sets them aside and reports them."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from datasets.slice_source import SliceSource
from storage.errors import DamageError, StoreError, UnreachableError
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.retry import POLICY
from storage.output_files import output_file
from storage.read.extents import AnnouncedRead, BadExtent, Extents
from storage.read.slice_reader import SliceReader

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BadSlice:
    """Slice that could not be read after retries: its row, object, offset (bytes) and reason."""

    row: int
    object: str
    offset: int
    reason: str


def write_report(bad: Sequence[BadSlice], path: str | Path) -> None:
    """Writes a Parquet table of bad slices: row, object, offset (bytes), reason."""
    schema = {"row": pl.Int64, "object": pl.String, "offset": pl.Int64, "reason": pl.String}
    with output_file(Path(path)) as unfinished:
        pl.DataFrame([asdict(one) for one in bad], schema=schema).write_parquet(unfinished)


def look_up(source: SliceSource, rows: np.ndarray) -> Extents:
    """Returns the extents of rows; retries after 0, 0.1 and 1 s.

    Raises StoreError where the last try fails.
    """
    for pause_s in POLICY.reread_after_s:
        try:
            return source.extents(rows)
        except UnreachableError:
            raise
        except StoreError:
            time.sleep(pause_s)
    return source.extents(rows)


class CarefulReader(SliceReader):
    """Slice reader that tolerates up to `max_bad` different bad slices.

    It appends them to `bad`, a list of the caller. `mode` as in `SliceReader`.
    """

    def __init__(
        self,
        remote: RemoteConfig = DEFAULT,
        *,
        check: bool,
        max_bad: int,
        bad: list[BadSlice],
        mode: str | None = None,
    ) -> None:
        super().__init__(remote, check=check, mode=mode)
        self._max_bad = max_bad
        self._bad = bad

    def read_rows(
        self, wanted: Extents | AnnouncedRead, rows: np.ndarray, out: np.ndarray
    ) -> np.ndarray:
        """Fills `out` [n, ...]; returns a mask of the good slices, bool [n].

        Retries failures from reopened files after 0, 0.1 and 1 s; without waiting where all their
        files have a bad slice already. Raises DamageError when more than `max_bad` slices
        have been bad.
        """
        good = np.ones(len(rows), bool)
        extents = wanted.extents if isinstance(wanted, AnnouncedRead) else wanted
        bad = self.try_read(wanted, out)
        for wait_s in POLICY.reread_after_s:
            known = {slice_.object for slice_ in self._bad}
            if not bad or (wait_s and known.issuperset(extent.object for extent in bad)):
                break
            time.sleep(wait_s)
            self.release_files()  # one may have been replaced under its name
            bad = self._read_again(extents, bad, out)
        for extent in bad:
            good[extent.position] = False
            self._set_aside(extent, int(rows[extent.position]))
        return good

    def _read_again(
        self, extents: Extents, bad: list[BadExtent], out: np.ndarray
    ) -> list[BadExtent]:
        index = np.array([extent.position for extent in bad])
        cells = np.empty_like(out, shape=(len(index), *out.shape[1:]))
        still_bad = self.try_read(extents[index], cells)
        out[index] = cells
        return [replace(extent, position=int(index[extent.position])) for extent in still_bad]

    def _set_aside(self, extent: BadExtent, row: int) -> None:
        bad = BadSlice(row=row, object=extent.object, offset=extent.offset, reason=extent.reason)
        is_new = all((known.object, known.row) != (bad.object, row) for known in self._bad)
        if is_new:
            self._bad.append(bad)
        text = f"row {bad.row} in {bad.object} at byte {bad.offset}: {bad.reason}"
        if len(self._bad) > self._max_bad:
            raise DamageError(
                f"{len(self._bad)} bad slices, more than max_bad={self._max_bad}; the last is "
                f"{text}. Repair that file, or raise max_bad to go on without"
            )
        if is_new:
            _log.warning("left out: %s", text)
