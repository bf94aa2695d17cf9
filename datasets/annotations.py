"""Reads tables of annotations: csv files of segments or recordings, and Raven's selection tables.

    tables = AnnotationTables(key="sources.labelled.segments", known=labels)
    rows = tables.read_file(Path("labels.csv"))  # (file, start_s, end_s, label)

    csv of segments       file, start_s, end_s, labels; labels are separated by `;`, times are
                          seconds or 0:00:05
    csv of recordings     train.csv of BirdCLEF: filename, primary_label, secondary_labels
    Raven                 selection tables (tab, `Begin Time (s)`), one per recording, named after
                          it, or one for many, with `Begin Path` or `Begin File`, and `File Offset`

Rows are one per label. Null times: the label is of the whole recording. A null label: the file is
annotated, and no label is in it, as an empty selection table says.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from storage.audio.integrity import AUDIO_ENDINGS
from storage.audio.kinds import OTHER_AUDIO_ENDINGS
from storage.errors import ConfigError
from storage.source.cells import is_missing, tidy
from storage.source.csv_text import TextTable, read_csv
from storage.source.label_lists import parse_labels
from storage.source.matching import match_names
from storage.source.segments import parse_seconds

BEGIN, END, OFFSET = "Begin Time (s)", "End Time (s)", "File Offset (s)"
RAVEN_FILES = ("Begin Path", "Begin File")
SECONDARY = "secondary_labels"
FILES = ("file", "filename", "path", "recordingid", "recording", "audiofile", "filepath")
STARTS = ("starts", "start", "starttime", "starttimes", "startseconds", "begins", "begin")
ENDS = ("ends", "end", "endtime", "endtimes", "endseconds", "stops", "stop")
LABELS = (
    *("labels", "label", "primarylabel", "species", "annotation", "speciescode", "birds"),
    *("scientificname", "commonname", "class", "tags"),
)
# Endings of Raven's and BirdNET's names after that of the recording.
_TABLE_ENDING = re.compile(r"(\.Table\.\d+|\.BirdNET|\.selections?|\.table)*\.(txt|tsv)$", re.I)

Row = tuple[str, float | None, float | None, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationTables:
    """Reads tables for a config key, which messages name.

    `known`: labels and names of classes, for lists of them. `label_column`: the column of labels,
    where its name says nothing; `label_key` is the config key that gives it.
    """

    key: str
    known: Collection[str] = ()
    label_column: str = ""
    label_key: str = ""

    def read_folder(self, folder: Path) -> list[Row] | None:
        """Rows of all selection tables below a folder, named after their recordings; or None."""
        files = raven_files(folder)
        if not files:
            return None
        rows: list[Row] = []
        for file in files:
            rows += self._raven_rows(self._open(file), file, str(file.relative_to(folder)))
        return rows

    def read_file(self, path: Path) -> list[Row]:
        """Rows of a csv or a selection table; raises ConfigError where it is neither."""
        table = self._open(path)
        if BEGIN in table.columns:
            return self._raven_rows(table, path, path.name)
        return self._csv_rows(table, path)

    def _open(self, path: Path) -> TextTable:
        try:
            return read_csv(path.read_bytes(), str(path))
        except OSError as error:
            raise ConfigError(
                f"{self.key}: {path} cannot be read: {error.strerror}; give a csv, a selection "
                "table of Raven, or a folder of those"
            ) from error

    def _raven_rows(self, table: TextTable, path: Path, name: str) -> list[Row]:
        """Rows of a selection table; the views of one selection, which repeat it, count once."""
        columns = table.columns
        file_column = next((column for column in RAVEN_FILES if column in columns), None)
        own_name = _TABLE_ENDING.sub("", name)
        if not table.num_rows:
            return [] if file_column and not own_name else [(own_name, None, None, None)]
        label = self._label_column(columns, path)
        if END not in columns or label is None:
            raise ConfigError(
                f"{self.key}: {path} lacks {END} or a column of labels; there are "
                f"{', '.join(columns)}{self._way_out()}"
            )
        rows: list[Row] = []
        for number in range(table.num_rows):
            begin, end = (
                self._time(columns[column][number], path, number) for column in (BEGIN, END)
            )
            start = begin
            if OFFSET in columns and not is_missing(columns[OFFSET][number]):
                start = self._time(columns[OFFSET][number], path, number)
            file = tidy(columns[file_column][number]) if file_column else own_name
            cell = tidy(columns[label][number])
            rows.append((file, start, start + end - begin, None if is_missing(cell) else cell))
        return rows

    def _csv_rows(self, table: TextTable, path: Path) -> list[Row]:
        """Rows of a csv, of segments where it has times, else of recordings."""
        columns = table.columns
        file = _column(columns, FILES)
        label = self._label_column(columns, path)
        start, end = (_column(columns, names) for names in (STARTS, ENDS))
        if file is None or label is None or (start is None) != (end is None):
            raise ConfigError(
                f"{self.key}: {path} needs columns file and labels, for segments start_s and "
                f"end_s too; there are {', '.join(columns)}"
            )
        rows: list[Row] = []
        for number in range(table.num_rows):
            name = tidy(columns[file][number])
            times: tuple[float | None, float | None] = (None, None)
            if start is not None and end is not None and not is_missing(columns[start][number]):
                begin_s, end_s = (
                    self._time(columns[one][number], path, number) for one in (start, end)
                )
                if end_s < begin_s:
                    raise ConfigError(f"{self.key}: {path}, row {number + 2} ends before it begins")
                times = (begin_s, end_s)
            labels = parse_labels(columns[label][number], self.known)
            if SECONDARY in columns and label != SECONDARY:
                labels += parse_labels(columns[SECONDARY][number], self.known)
            rows += [(name, *times, one) for one in or_none(labels)]
        return rows

    def _label_column(self, columns: Mapping[str, object], path: Path) -> str | None:
        if self.label_column and self.label_column not in columns:
            raise ConfigError(
                f"{self.label_key}={self.label_column} is no column of {path}: there are "
                f"{', '.join(columns)}"
            )
        return self.label_column or _column(columns, LABELS)

    def _way_out(self) -> str:
        return f": name it by {self.label_key}=" if self.label_key else ""

    def _time(self, cell: str, path: Path, number: int) -> float:
        seconds_s = parse_seconds(cell)
        if seconds_s is None or not math.isfinite(seconds_s):
            raise ConfigError(
                f"{self.key}: {path}, row {number + 2}: {cell!r} is no time in seconds"
            )
        return seconds_s


def raven_files(folder: Path) -> list[Path]:
    """Selection tables below a folder: text files whose header has the column of begin times."""
    found = []
    for path in sorted(folder.rglob("*.txt")):
        with path.open("rb") as file:
            if BEGIN.encode() in file.readline(10_000):
                found.append(path)
    return found


def or_none(labels: list[str]) -> Sequence[str | None]:
    """Labels; a row without any is one with null."""
    return labels or (None,)


def _column(columns: Mapping[str, object], names: Sequence[str]) -> str | None:
    """The column of a meaning: the first of `names`, marks left out."""
    plain = {re.sub(r"[^a-z]", "", name.lower()): name for name in reversed(list(columns))}
    return next((plain[name] for name in names if name in plain), None)


def match_files(files: Sequence[str], recordings: Sequence[str]) -> dict[str, str]:
    """Finds the recording_id of annotated files; those that fit none, or several, are left out."""
    names = {file: without_ending(file) for file in files}
    matches = match_names(list(names.values()), recordings)
    there = set(recordings)
    found = {}
    for file, name in names.items():
        recording_id = name if name in there else matches[name].file if name in matches else None
        if recording_id is not None:
            found[file] = recording_id
    return found


def without_ending(file: str) -> str:
    path = PurePosixPath(file.replace("\\", "/"))
    is_audio = path.suffix.lower() in (*AUDIO_ENDINGS, *OTHER_AUDIO_ENDINGS)
    return str(path.with_suffix("")) if is_audio else str(path)
