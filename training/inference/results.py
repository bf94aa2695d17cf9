"""Raw results of a run, one file per recording, from which all outputs are made.

    out/predict.json               models, windows, classes, versions; all that decides the results
    out/recordings.parquet         the recordings of the run, in its order
    out/raw/000/000123.parquet     one row per window: start_s, end_s, silent, b0_LABEL, b1_LABEL...
    out/raw/000/000124.json        instead: why a recording could not be used

Each file appears whole, under its name, and is on the disk by then: a run that was killed goes on
with the recordings that have none. Another run is refused in the same folder. Shapes: B branches,
W windows, C classes.
"""

import importlib.metadata
import io
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from storage.checksums import digest_json
from storage.errors import ConfigError, StoreError
from storage.objects.local import TEMPORARY, LocalObjects
from storage.objects.lock import hold_lock
from storage.source.listing import shown_name
from storage.untrusted import parse_json
from training.inference.fingerprint import differences, listed, shown
from training.inference.predictions import ClassTable, PredictedRecording
from training.inference.reading.inputs import InputRecording

RUN, LIST, RAW, LOCK = "predict.json", "recordings.parquet", "raw", ".lock"
FACTS = "melbank"  # key of a recording's facts in the metadata of its file
FORMAT = 1
UNREADABLE = (pl.exceptions.PolarsError, KeyError, TypeError, ValueError)
PACKAGES = ("torch", "timm", "numpy", "polars", "soundfile", "soxr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Description of a run, as predict.json has it."""

    branches: tuple[str, ...]
    classes: ClassTable
    decides: Mapping[str, Any]
    about: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawPredictions:
    """The windows of one recording in order of time, and their probabilities by each branch."""

    recording: PredictedRecording
    start_s: np.ndarray  # float64 [W]
    end_s: np.ndarray  # float64 [W]
    silent: np.ndarray  # bool [W]
    probabilities: np.ndarray  # float32 [B, W, C]; NaN where a branch lacks the class


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A recording without predictions, and why."""

    recording_id: str
    path: str
    reason: str


class Results:
    """A folder of raw results; `lock` it to add to them."""

    def __init__(self, out: str | Path) -> None:
        self.root = Path(out)
        self._objects = LocalObjects(str(out))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder; raises StoreError where another run is at work on it."""
        busy = f"another prediction is at work on {self.root}: wait for it, or give another folder"
        with hold_lock(self.root / LOCK, busy):
            self._objects.clear_temporary()
            yield

    def check_folder(self) -> None:
        """ConfigError where the folder has anything but the results of a run, or is a file."""
        if not self.root.exists() or (self.root / RUN).is_file():
            return
        if not self.root.is_dir():
            raise ConfigError(f"predict.out={self.root} is a file: give a folder")
        own = (LIST, LOCK, RAW, TEMPORARY)  # of a run that was killed as it began
        foreign = sorted(set(os.listdir(self.root)).difference(own))
        if foreign:
            raise ConfigError(
                f"predict.out={self.root} is not empty and has no results of tools.predict (it "
                f"holds {foreign[0]}): give a new folder"
            )

    def begin(self, run: Run, recordings: tuple[InputRecording, ...]) -> None:
        """Records a run, or goes on with it; ConfigError where another one has begun here."""
        names = listed(recordings)
        decides = {
            **run.decides,
            "labels": list(run.classes.labels),
            "recordings": digest_json(names),
        }
        if self._objects.exists(RUN):
            self._check_same(decides, names)
            return
        if any(self.root.glob("raw/*/*")):
            raise ConfigError(
                f"predict.out={self.root} has raw results without {RUN}: give another folder, or "
                "remove it"
            )
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        document = {
            "format": FORMAT,
            "fingerprint": digest_json(decides),
            "begun": datetime.now(UTC).isoformat(timespec="seconds"),
            "branches": list(run.branches),
            "decides": decides,
            "names": run.classes.names,
            "about": dict(run.about),
            "versions": {"python": platform.python_version(), **versions},
        }
        columns = ("recording_id", "path", "version")
        table = {name: [getattr(one, name) for one in recordings] for name in columns}
        table["path"] = list(map(shown_name, table["path"]))
        frame = pl.DataFrame(table, schema=dict.fromkeys(columns, pl.String))
        self._objects.put(LIST, _parquet(frame))
        text = json.dumps(document, indent=1, ensure_ascii=False)
        self._objects.put(RUN, text.encode(errors="replace"))  # names of files may be no Unicode

    def _check_same(self, decides: Mapping[str, Any], names: Mapping[str, str]) -> None:
        then = self.describe()["decides"]
        if digest_json(then) == digest_json(decides):
            return
        found = differences(
            {**then, "labels": dict.fromkeys(then.get("labels", ()), "")},
            {**decides, "labels": dict.fromkeys(decides["labels"], "")},
        )
        if then.get("recordings") != decides["recordings"]:
            found = [sentence for sentence in found if not sentence.startswith("recordings was")]
            before = (InputRecording(**row) for row in self._listed().iter_rows(named=True))
            found += differences(listed(before), names) or [
                "the order of the recordings is another one"
            ]
        raise ConfigError(
            f"predict.out={self.root} has the results of another run: {shown(found)}. Give another "
            "folder, or remove that one"
        )

    def describe(self) -> dict[str, Any]:
        """The contents of predict.json; raises StoreError where there is none."""
        data = self._objects.get(RUN)
        try:
            document = parse_json(data)
        except ValueError as error:
            raise StoreError(f"{self.root / RUN} is damaged: {error}") from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise StoreError(f"{self.root / RUN} is of another version: predict into a new folder")
        return document

    def classes(self) -> ClassTable:
        """The classes, in the order of the last axis of probabilities, with the names they have."""
        document = self.describe()
        return ClassTable(labels=tuple(document["decides"]["labels"]), names=document["names"])

    def branches(self) -> tuple[str, ...]:
        """The names of the branches, in the order of the first axis of probabilities."""
        return tuple(self.describe()["branches"])

    def num_recordings(self) -> int:
        """Number of recordings, those that gave nothing too."""
        return len(self._listed())

    def _listed(self) -> pl.DataFrame:
        return pl.read_parquet(io.BytesIO(self._objects.get(LIST)))

    def has(self, number: int) -> bool:
        """True where a recording, by its place in the run, is done."""
        return any(self._objects.exists(_name(number, end)) for end in ("parquet", "json"))

    def write(self, number: int, raw: RawPredictions, labels: tuple[str, ...]) -> None:
        """Commits the windows of a recording."""
        columns = {
            f"b{place}_{label}": values_WC[:, column]
            for place, values_WC in enumerate(raw.probabilities)
            for column, label in enumerate(labels)
        }
        head = {"start_s": raw.start_s, "end_s": raw.end_s, "silent": raw.silent}
        facts = json.dumps(asdict(raw.recording), ensure_ascii=False)
        self._objects.put(_name(number, "parquet"), _parquet(pl.DataFrame(head | columns), facts))

    def reject(self, number: int, reject: Reject) -> None:
        """Commits that a recording could not be used."""
        data = json.dumps(asdict(reject), ensure_ascii=False).encode()
        self._objects.put(_name(number, "json"), data)

    def iterate(self) -> Iterator[RawPredictions]:
        """Yields the recordings of a finished run, in its order, one at a time.

        Raises StoreError where the run is not finished, or a file is damaged.
        """
        num_branches = len(self.branches())
        for number in range(len(self._listed())):
            if self._objects.exists(_name(number, "json")):
                continue
            name = _name(number, "parquet")
            try:
                data = self._objects.get(name)
            except StoreError as error:
                raise StoreError(f"{error}: run tools.predict again, it goes on") from error
            yield _decode(data, num_branches, self.root / name)

    def recordings(self) -> Iterator[PredictedRecording]:
        """Yields the recordings with predictions, in the order of the run, without their windows.

        Raises StoreError where a file is damaged.
        """
        for number in range(len(self._listed())):
            name = _name(number, "parquet")
            if self._objects.exists(name):
                yield _facts(self._objects.get(name), self.root / name)

    def rejects(self) -> Iterator[Reject]:
        """Yields the recordings without predictions, in the order of the run."""
        for number in range(len(self._listed())):
            name = _name(number, "json")
            if self._objects.exists(name):
                yield Reject(**parse_json(self._objects.get(name)))


def _name(number: int, ending: str) -> str:
    return f"raw/{number // 1000:03d}/{number:06d}.{ending}"


def _parquet(frame: pl.DataFrame, facts: str = "") -> bytes:
    """A frame as Parquet; equal frames give equal bytes."""
    buffer = io.BytesIO()
    metadata = {FACTS: facts} if facts else None
    frame.write_parquet(buffer, compression="zstd", statistics=False, metadata=metadata)
    return buffer.getvalue()


def _facts(data: bytes, path: Path) -> PredictedRecording:
    try:
        facts = parse_json(pl.read_parquet_metadata(io.BytesIO(data))[FACTS].encode())
        return PredictedRecording(**facts)
    except UNREADABLE as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> StoreError:
    return StoreError(f"{path} is damaged: delete it and run tools.predict again, it goes on")


def _decode(data: bytes, num_branches: int, path: Path) -> RawPredictions:
    recording = _facts(data, path)
    try:
        frame = pl.read_parquet(io.BytesIO(data))
        head = frame.select("start_s", "end_s", "silent")
        values_WX = frame.drop(head.columns).to_numpy(order="c")
        return RawPredictions(
            recording=recording,
            start_s=head["start_s"].to_numpy(),
            end_s=head["end_s"].to_numpy(),
            silent=head["silent"].to_numpy(),
            probabilities=values_WX.reshape(len(frame), num_branches, -1).transpose(1, 0, 2),
        )
    except UNREADABLE as error:
        raise _damaged(path) from error
