"""Verdicts while a page is open: adds them, takes them back, and says how slices stand.

    desk = ReviewDesk(Path("reviews"))
    desk.add(verdict)          # returns when it is on disk
    desk.of_slice("XC1", 5.0)  # its standing verdicts

Verdicts that other programs add to the folder are seen within a second. Safe to use from threads.
"""

import threading
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import polars as pl

from datasets.reviews import (
    UNDO,
    VERDICTS,
    ReviewLog,
    ReviewReader,
    Verdict,
    agreement,
    current_reviews,
)
from storage.errors import ConfigError, ObjectMissingError, StoreError

LOOK_S = 1.0  # between two looks for verdicts of others
JOINED = 200  # verdicts of ours that are joined into one file
START_DIGITS = 3  # of a start in s, by which a slice is known
MIXED, NO_VERDICT = "mixed", "none"
Key = tuple[str, float]  # recording_id and start


class TakenBackError(ConfigError):
    """A verdict that cannot be taken back."""


class ReviewDesk:
    """The verdicts of a folder, which is made with the first of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        self._log: ReviewLog | None = None
        self._reader = ReviewReader(folder)
        self._looked_s = -LOOK_S
        self._num_added = 0
        self._current = pl.DataFrame(schema=self._reader.read().schema)
        self._by_slice: dict[Key, list[dict[str, Any]]] = {}
        self._version = -1
        self.refresh()

    @property
    def version(self) -> int:
        """A number that changes with the verdicts."""
        self.refresh()
        return self._version

    def refresh(self, *, now: bool = False) -> None:
        """Reads what has been added to the folder; at most once a second, or `now`."""
        with self._lock:
            if not now and time.monotonic() - self._looked_s < LOOK_S:
                return
            every = self._reader.read()
            self._looked_s = time.monotonic()
            if self._reader.version == self._version:
                return
            self._current = current_reviews(every)
            by_slice: dict[Key, list[dict[str, Any]]] = defaultdict(list)
            for verdict in self._current.iter_rows(named=True):
                by_slice[slice_key(verdict["recording_id"], verdict["start_s"])].append(verdict)
            self._by_slice = dict(by_slice)
            self._version = self._reader.version

    def current(self) -> pl.DataFrame:
        """The standing verdicts, see `current_reviews`."""
        self.refresh()
        return self._current

    def of_slice(self, recording_id: str, start_s: float) -> list[dict[str, Any]]:
        """The standing verdicts on a slice, about any label."""
        return self._by_slice.get(slice_key(recording_id, start_s), [])

    def of_item(self, recording_id: str, start_s: float, label: str) -> list[dict[str, Any]]:
        """The standing verdicts on a label in a slice."""
        found = self.of_slice(recording_id, start_s)
        return [verdict for verdict in found if verdict["label"] == label]

    def slices(self) -> dict[Key, str]:
        """The state of each slice that has verdicts."""
        self.refresh()
        return {key: state_of(verdicts) for key, verdicts in self._by_slice.items()}

    def add(self, verdict: Verdict) -> bool:
        """Writes a verdict; False where one with its id is there already.

        Returns when it is on disk; StoreError where the disk refuses.
        """
        with self._lock:
            self.refresh(now=True)
            if (self._reader.read()["verdict_id"] == verdict.verdict_id).any():
                return False
            self._write(verdict)
            return True

    def take_back(self, verdict_id: str, annotator: str) -> str:
        """Undoes a verdict of an annotator; returns the id of the undo.

        Raises ObjectMissingError where there is none of that id, TakenBackError where it is of
        another annotator, or taken back already.
        """
        with self._lock:
            self.refresh(now=True)
            every = self._reader.read()
            found = every.filter(pl.col("verdict_id") == verdict_id)
            if found.is_empty():
                raise ObjectMissingError(f"there is no verdict {verdict_id}")
            first = found.row(0, named=True)
            if first["annotator"] != annotator:
                raise TakenBackError(f"the verdict is of {first['annotator']}, not {annotator}")
            if first["verdict"] == UNDO or (every["takes_back"] == verdict_id).any():
                raise TakenBackError("the verdict is taken back already")
            undo = Verdict(
                annotator=annotator,
                verdict=UNDO,
                label=first["label"],
                recording_id=first["recording_id"],
                start_s=first["start_s"],
                end_s=first["end_s"],
                row=first["row"],
                takes_back=verdict_id,
            )
            self._write(undo)
            return undo.verdict_id

    def close(self) -> None:
        """Joins the files of the verdicts that were added here."""
        with self._lock:
            if self._log is not None:
                self._log.compact()

    def progress(self) -> dict[str, Any]:
        """Counts of the standing verdicts: by annotator, by label, and agreement."""
        current = self.current()
        agreed = agreement(current)
        return {
            "verdicts": len(current),
            "items": current.select("recording_id", "start_s", "label").n_unique(),
            "recordings": current["recording_id"].n_unique(),
            "annotators": _counts(current, "annotator"),
            "labels": _counts(current, "label"),
            "agreement": {"shared": agreed.shared, "same": agreed.same},
        }

    def problem(self) -> str:
        """Why no verdict could be saved, in a sentence; empty where they can."""
        place = next(one for one in (self.folder, *self.folder.parents) if one.exists())
        try:
            with TemporaryFile(dir=place):
                return ""
        except OSError as error:
            return self._refused(error)

    def _refused(self, error: OSError) -> str:
        return (
            f"the folder of reviews {self.folder} cannot be made, or written to "
            f"({error.strerror}): give another with explore.reviews="
        )

    def _write(self, verdict: Verdict) -> None:
        if self._log is None:
            try:
                self._log = ReviewLog(self.folder)
            except OSError as error:
                raise StoreError(self._refused(error)) from error
        self._log.append(verdict)
        self._num_added += 1
        if self._num_added % JOINED == 0:
            self._log.compact()
        self.refresh(now=True)


def slice_key(recording_id: str, start_s: float) -> Key:
    """The name of a slice by its place in a recording."""
    return recording_id, round(start_s, START_DIGITS)


def state_of(verdicts: list[dict[str, Any]]) -> str:
    """The verdict that all share; `mixed`, or `none` where there are none."""
    kinds = {verdict["verdict"] for verdict in verdicts}
    if not kinds:
        return NO_VERDICT
    return str(kinds.pop()) if len(kinds) == 1 else MIXED


def _counts(current: pl.DataFrame, name: str) -> list[dict[str, Any]]:
    kinds = [kind for kind in VERDICTS if kind != UNDO]
    counted = current.group_by(name).agg(
        pl.len().alias("verdicts"),
        *((pl.col("verdict") == kind).sum().alias(kind) for kind in kinds),
    )
    return counted.sort(name).to_dicts()
