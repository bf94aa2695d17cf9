"""WAV excerpts of detections, for review by ear: `excerpts/LABEL/SCORE_STEM_START-END.wav`.

An excerpt has the rate and the channels of its recording and some sound before and after the
detection; START and END are those of the detection, s. Only that part of the file is read. 16-bit
samples stay as they are; others are rounded to 16 bits, and scaled down where they are louder
than full scale. `excerpts/excerpts.csv` names the detection of each file. A name holds letters,
digits and a few signs only, so that no label and no file name leads out of the folder.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile

from storage.audio.sound_stream import SoundStream
from storage.errors import ObjectMissingError, StoreError
from storage.output_files import output_file
from storage.untrusted import is_plain
from training.inference.outputs.class_lists import shown
from training.inference.outputs.detect import SCHEMA
from training.inference.outputs.excerpt_choice import ExcerptChoice
from training.inference.outputs.output import Output, OutputJob
from training.inference.outputs.text import safe_name, short_seconds, unused_name
from training.inference.predictions import WindowPredictions

FOLDER, TABLE = "excerpts", "excerpts.csv"
COLUMNS = ("recording_id", "path", "start_s", "end_s", "label", "common_name", "score")
FULL_SCALE = 2**15 - 1


class Excerpts(Output):
    """Writes the excerpts of selected detections, and a table of them."""

    def __init__(self, job: OutputJob) -> None:
        super().__init__(job)
        self._config = job.config.excerpts
        self._choice = ExcerptChoice(self._config)
        self._folder = job.folder / FOLDER
        self._names: set[str] = set()
        self._rows: list[dict[str, Any]] = []
        self._unreadable: list[str] = []
        self._earlier = earlier_excerpts(self._folder)

    def add(self, windows: WindowPredictions, detections: pl.DataFrame) -> None:
        row: dict[str, Any]
        for row in detections.iter_rows(named=True):
            if self._config.choice == "all":
                self._write(row)
            else:
                self._choice.add(row)

    def finish(self) -> list[str]:
        for row in self._choice.chosen():
            self._write(row)
        schema = {"file": SCHEMA["label"], **{name: SCHEMA[name] for name in COLUMNS}}
        with output_file(self._folder / TABLE) as unfinished:
            pl.DataFrame(self._rows, schema=schema).write_csv(unfinished)
        for name in self._earlier - {row["file"] for row in self._rows}:
            (self._folder / name).unlink(missing_ok=True)
        if self._unreadable:
            self.notes.append(
                f"{len(self._unreadable)} excerpts could not be read from their recordings: "
                f"{shown(self._unreadable)}"
            )
        return self.notes

    def _write(self, row: dict[str, Any]) -> None:
        name = self._name(row)
        try:
            with self.job.audio.open(row["path"]) as path:
                data = read_wav(path, *self._span(row))
        except (soundfile.LibsndfileError, ObjectMissingError):
            data = b""
        if not data:
            self._unreadable.append(name)
            return
        with output_file(self._folder / name) as unfinished:
            unfinished.write_bytes(data)
        self._rows.append({"file": name, **{column: row[column] for column in COLUMNS}})

    def _span(self, row: dict[str, Any]) -> tuple[float, float]:
        """Start and end of an excerpt in its recording, s."""
        start_s = max(0.0, row["start_s"] - self._config.context_s)
        end_s = row["end_s"] + self._config.context_s
        return start_s, min(end_s, start_s + self._config.max_s)

    def _name(self, row: dict[str, Any]) -> str:
        """A name of the file that no other excerpt has."""
        stem = safe_name(row["recording_id"].rpartition("/")[2])
        times = f"{short_seconds(row['start_s'])}-{short_seconds(row['end_s'])}"
        base = f"{safe_name(row['label'])}/{row['score']:.3f}_{stem}_{times}"
        return unused_name(base, ".wav", self._names)


def read_wav(source: Path, start_s: float, end_s: float) -> bytes:
    """Returns a part of a recording as a 16-bit wav file; nothing where there is no sound."""
    with SoundStream(source) as file:
        first = min(round(start_s * file.samplerate), file.frames)
        count = max(0, round(end_s * file.samplerate) - first)
        file.go_to(first)
        if file.subtype == "PCM_16":
            samples = file.read(count, dtype="int16", always_2d=True)
        else:
            samples = _as_int16(file.read(count, dtype="float32", always_2d=True))
        rate_hz = file.samplerate
    if not len(samples):
        return b""
    wav = io.BytesIO()
    soundfile.write(wav, samples, rate_hz, subtype="PCM_16", format="WAV")
    return wav.getvalue()


def earlier_excerpts(folder: Path) -> set[str]:
    """Names of the excerpts of an earlier run, by its table; StoreError where it is damaged."""
    table = folder / TABLE
    if not table.is_file():
        return set()
    try:
        names = pl.read_csv(table, columns=["file"], infer_schema=False, glob=False)[
            "file"
        ].to_list()
    except pl.exceptions.PolarsError as error:
        raise StoreError(f"{table} is damaged: delete the folder {folder}") from error
    # They are deleted, and the table may come from anywhere: wav files of this folder only.
    return {
        name for name in names if is_plain(name) and name.endswith(".wav") and name.count("/") == 1
    }


def _as_int16(samples: np.ndarray) -> np.ndarray:
    samples = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    peak = float(np.abs(samples).max(initial=0.0))
    rounded: np.ndarray = np.rint(samples * (FULL_SCALE / max(1.0, peak))).astype(np.int16)
    return rounded
