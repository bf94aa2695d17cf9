"""Reviews: verdicts of people on labels and detections, as Parquet files that are only added to.

    log = ReviewLog(Path("reviews"))
    log.append(Verdict(annotator="ana", row=7, label="owl", verdict=YES, ...))
    current_reviews(read_reviews(Path("reviews")))

A verdict is a file of its own, complete under its name or not there, and on disk when `append`
returns. So any number of people and programs write at once, and a crash loses nothing that was
confirmed. `compact` joins the files of a log into one; a reader between its two steps sees some
verdicts twice, and knows them by their id. Nothing is changed: an undo is a further line, which
names the line that it takes back.
"""

import os
import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from storage.errors import ConfigError, StoreError
from storage.objects.local import sync_folder
from storage.options import check_choice

YES, NO, UNSURE, OTHER, UNDO = "yes", "no", "unsure", "other", "undo"
VERDICTS = (YES, NO, UNSURE, OTHER, UNDO)
_COLUMNS: dict[str, Any] = {
    "verdict_id": pl.String,
    "time": pl.Datetime("us", "UTC"),
    "annotator": pl.String,
    "verdict": pl.String,
    "label": pl.String,
    "other_label": pl.String,
    "row": pl.Int64,
    "recording_id": pl.String,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "score": pl.Float64,
    "model": pl.String,
    "queue": pl.String,
    "note": pl.String,
    "takes_back": pl.String,
}
SCHEMA = pl.Schema(_COLUMNS)
ITEM = ("recording_id", "start_s", "label")  # of which a verdict is
ENDING = ".parquet"
MAX_TEXT = 1000  # characters of a note or name


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One verdict: is `label` heard in this slice? `other`: no, but `other_label` is.

    `score` and `model` are those that were shown, `queue` the order in which it came. `undo` takes
    back the verdict with the id `takes_back`.
    """

    annotator: str
    verdict: str
    label: str
    recording_id: str
    start_s: float
    end_s: float
    row: int | None = None
    other_label: str = ""
    score: float | None = None
    model: str = ""
    queue: str = ""
    note: str = ""
    takes_back: str = ""
    verdict_id: str = field(default_factory=lambda: secrets.token_hex(16))
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        check_choice(self, "review", "verdict", VERDICTS)
        if not self.annotator.strip():
            raise ConfigError("a verdict needs the name of its annotator")
        if (self.verdict == OTHER) != bool(self.other_label):
            raise ConfigError("the verdict `other` names another label, and no other verdict does")
        if (self.verdict == UNDO) != bool(self.takes_back):
            raise ConfigError(
                "the verdict `undo` names the id of another, and no other verdict does"
            )
        if not 0 <= self.start_s < self.end_s < float("inf"):
            raise ConfigError(f"{self.start_s} to {self.end_s} s is no stretch of a recording")
        if any(isinstance(one, str) and len(one) > MAX_TEXT for one in asdict(self).values()):
            raise ConfigError(f"a text of a verdict has more than {MAX_TEXT:,} characters")


class ReviewLog:
    """Adds verdicts to a folder. Safe to use from several processes at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._written: list[str] = []

    def append(self, verdict: Verdict) -> str:
        """Writes a verdict and returns its id; StoreError where the disk refuses."""
        name = f"{verdict.time:%Y%m%dT%H%M%S%f}_{verdict.verdict_id}{ENDING}"
        self._write(pl.DataFrame([asdict(verdict)], schema=SCHEMA), name)
        self._written.append(name)
        return verdict.verdict_id

    def compact(self) -> None:
        """Joins the verdicts that this log has written into one file."""
        names, self._written = self._written, []
        if len(names) < 2:
            self._written = names
            return
        frame = pl.concat([pl.read_parquet(self._folder / name, glob=False) for name in names])
        joined = f"{names[0].removesuffix(ENDING)}_{len(names)}{ENDING}"
        self._write(frame, joined)
        for name in names:
            (self._folder / name).unlink()
        self._written = [joined]

    def _write(self, frame: pl.DataFrame, name: str) -> None:
        unfinished = self._folder / f".{name}.{os.getpid()}"
        try:
            with unfinished.open("wb") as file:
                frame.write_parquet(file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._folder / name)
            sync_folder(self._folder)
        except OSError as error:
            raise StoreError(
                f"the verdict could not be written to {self._folder} ({error.strerror}): free "
                "space or give another folder"
            ) from error
        finally:
            unfinished.unlink(missing_ok=True)


def read_reviews(*paths: Path) -> pl.DataFrame:
    """All verdicts of folders, or of single files of theirs, each once, in the order of their time.

    Raises ConfigError where there is no such folder or file, StoreError where a file is damaged.
    """
    frames = [pl.DataFrame(schema=SCHEMA)]
    for path in paths:
        if path.is_dir():
            while (found := _read_all(path)) is None:
                pass
            frames += found
        else:
            frame = _read(path)
            if frame is None:
                raise ConfigError(f"there is no folder of reviews {path}")
            frames.append(frame)
    return pl.concat(frames).unique("verdict_id", keep="first").sort("time", "verdict_id")


class ReviewReader:
    """Reads the verdicts of a folder again and again; each file once. For one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: set[str] = set()
        self._known = pl.DataFrame(schema=SCHEMA)
        self.version = 0  # higher with each change

    def read(self) -> pl.DataFrame:
        """All verdicts, as `read_reviews` gives them."""
        while True:
            names = {path.name for path in self._folder.glob(f"[!.]*{ENDING}")}
            new = {name: _read(self._folder / name) for name in sorted(names - self._seen)}
            found = [frame for frame in new.values() if frame is not None]
            if found:
                whole = pl.concat([self._known, *found]).unique("verdict_id", keep="first")
                self._known = whole.sort("time", "verdict_id")
                self.version += 1
            self._seen |= {name for name, frame in new.items() if frame is not None}
            if len(found) == len(new):  # else one was joined with others into a file not yet listed
                return self._known


def _read_all(folder: Path) -> list[pl.DataFrame] | None:
    """All files; None where one was joined with others meanwhile, into a file not yet listed."""
    frames = []
    for path in sorted(folder.glob(f"[!.]*{ENDING}")):
        frame = _read(path)
        if frame is None:
            return None
        frames.append(frame)
    return frames


def _read(path: Path) -> pl.DataFrame | None:
    """The verdicts of a file; None where it is no longer there."""
    try:
        frame = pl.read_parquet(path, glob=False)
    except FileNotFoundError:
        return None
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise StoreError(
            f"{path} is damaged ({str(error).splitlines()[0]}): restore it from a copy, or move it "
            "away to go on without its verdicts"
        ) from error
    if frame.schema != SCHEMA:
        raise StoreError(f"{path} is no file of reviews: its columns are others")
    return frame


def current_reviews(reviews: pl.DataFrame) -> pl.DataFrame:
    """The last verdict of each annotator on each item; those that were taken back do not count."""
    undone = reviews.filter(pl.col("verdict") == UNDO)["takes_back"].implode()
    standing = reviews.filter((pl.col("verdict") != UNDO) & ~pl.col("verdict_id").is_in(undone))
    return standing.unique(["annotator", *ITEM], keep="last", maintain_order=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Items that several people have judged, and of how many all say the same."""

    shared: int
    same: int


def agreement(current: pl.DataFrame) -> Agreement:
    """Counts items with verdicts of several annotators; `unsure` is a verdict like the others."""
    items = current.group_by(ITEM).agg(
        people=pl.col("annotator").n_unique(),
        answers=pl.struct("verdict", "other_label").n_unique(),
    )
    shared = items.filter(pl.col("people") > 1)
    return Agreement(shared=len(shared), same=int((shared["answers"] == 1).sum()))


def decided_labels(current: pl.DataFrame) -> pl.DataFrame:
    """Labels that the annotators agree on: recording_id, start_s, end_s, row, label, present.

    `yes` says that the label is there, `no` and `other` that it is not, and `other` that another
    one is. Contradictions and `unsure` decide nothing.
    """
    told = current.filter(pl.col("verdict") != UNSURE)
    of_label = told.with_columns(present=pl.col("verdict") == YES)
    of_other = told.filter(pl.col("verdict") == OTHER).with_columns(
        label=pl.col("other_label"), present=pl.lit(True)
    )
    columns = ("recording_id", "start_s", "end_s", "row", "label", "present")
    every = pl.concat([of_label.select(columns), of_other.select(columns)])
    decided = every.group_by(ITEM, maintain_order=True).agg(
        pl.col("end_s", "row", "present").first(), answers=pl.col("present").n_unique()
    )
    return decided.filter(pl.col("answers") == 1).select(columns)
