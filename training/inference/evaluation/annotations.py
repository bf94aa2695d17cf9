"""Reads annotations: tables of labelled times or recordings, in the forms that people have.

    csv of segments       file, start_s, end_s, labels; labels are separated by `;`, times are
                          seconds or 0:00:05
    csv of recordings     train.csv of BirdCLEF: filename, primary_label, secondary_labels
    Raven                 selection tables (tab, `Begin Time (s)`), one per recording, named after
                          it, or one for many, with `Begin Path` or `Begin File`, and `File Offset`
    labelled recordings   a folder that tools.build_store reads, or a store

A file without a label, such as an empty selection table, is annotated: nothing is in it.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from storage.errors import ConfigError
from storage.format.manifest import NAME as MANIFEST
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.urls import is_remote
from storage.source.cells import is_missing, tidy
from storage.source.csv_text import TextTable, read_csv
from storage.source.label_lists import parse_labels
from storage.source.segments import parse_seconds
from storage.source.table import SourceConfig, read_source
from storage.store import open_store

SCHEMA = {"file": pl.String, "start_s": pl.Float64, "end_s": pl.Float64, "label": pl.String}
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotations:
    """Rows with the columns of SCHEMA, one per label, in the order of the tables.

    `file` as written. Null times: the label is of the whole recording. Null labels: the file is
    annotated, and no label is in it. `where` names the sources for messages.
    """

    table: pl.DataFrame
    where: str


def read_annotations(
    paths: Sequence[str],
    known: Collection[str] = (),
    *,
    label_column: str = "",
    remote: RemoteConfig = DEFAULT,
) -> Annotations:
    """Reads and joins annotations; `known` are labels and names of classes, for lists of them.

    Raises ConfigError where a path is none of the forms above.
    """
    rows: list[Row] = []
    for path in paths:
        rows += _read(path, known, label_column, remote)
    if not rows:
        raise ConfigError(f"evaluate.annotations={', '.join(paths)}: there is no annotation")
    table = pl.DataFrame(rows, schema=SCHEMA, orient="row").unique(maintain_order=True)
    return Annotations(table=table, where=", ".join(paths))


def _read(
    path: str, known: Collection[str], label_column: str, remote: RemoteConfig
) -> Iterable[Row]:
    if is_remote(path) or (Path(path) / MANIFEST).is_file():
        with open_store(path, remote) as store:
            return _rows_of_recordings(store.recordings())
    if Path(path).is_dir():
        tables = {file: _open(file) for file in _raven_files(Path(path))}
        if tables:
            root = Path(path)
            return [
                row
                for file, table in tables.items()
                for row in _raven_rows(table, file, str(file.relative_to(root)), label_column)
            ]
        return _rows_of_recordings(read_source(SourceConfig(root=path), remote).recordings)
    table = _open(Path(path))
    if BEGIN in table.columns:
        return _raven_rows(table, Path(path), Path(path).name, label_column)
    return _csv_rows(table, path, known, label_column)


def _raven_files(folder: Path) -> list[Path]:
    """Selection tables below a folder: text files whose header has the column of begin times."""
    found = []
    for path in sorted(folder.rglob("*.txt")):
        with path.open("rb") as file:
            if BEGIN.encode() in file.readline(10_000):
                found.append(path)
    return found


def _open(path: Path) -> TextTable:
    try:
        return read_csv(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(
            f"evaluate.annotations: {path} cannot be read: {error.strerror}: give a csv, a table "
            "of Raven, a folder of those, a labelled folder or a store"
        ) from error


def _raven_rows(table: TextTable, path: Path, name: str, label_column: str) -> list[Row]:
    """Rows of a selection table; the views of one selection, which repeat it, count once."""
    columns = table.columns
    file_column = next((column for column in RAVEN_FILES if column in columns), None)
    own_name = _TABLE_ENDING.sub("", name)
    if not table.num_rows:
        return [] if file_column and not own_name else [(own_name, None, None, None)]
    label = _column(columns, LABELS, label_column, path)
    if END not in columns or label is None:
        raise ConfigError(
            f"evaluate.annotations: {path} lacks {END} or a column of labels; there are "
            f"{', '.join(columns)}: name it by evaluate.label_column="
        )
    rows: list[Row] = []
    for number in range(table.num_rows):
        begin, end = (_time(columns[column][number], path, number) for column in (BEGIN, END))
        start = begin
        if OFFSET in columns and not is_missing(columns[OFFSET][number]):
            start = _time(columns[OFFSET][number], path, number)
        file = tidy(columns[file_column][number]) if file_column else own_name
        cell = tidy(columns[label][number])
        rows.append((file, start, start + end - begin, None if is_missing(cell) else cell))
    return rows


def _csv_rows(table: TextTable, path: str, known: Collection[str], label_column: str) -> list[Row]:
    """Rows of a csv, of segments where it has times, else of recordings."""
    columns = table.columns
    file = _column(columns, FILES, "", Path(path))
    label = _column(columns, LABELS, label_column, Path(path))
    start, end = (_column(columns, names, "", Path(path)) for names in (STARTS, ENDS))
    if file is None or label is None or (start is None) != (end is None):
        raise ConfigError(
            f"evaluate.annotations: {path} needs columns file and labels, for segments start_s and "
            f"end_s too; there are {', '.join(columns)}"
        )
    rows: list[Row] = []
    for number in range(table.num_rows):
        name = tidy(columns[file][number])
        times: tuple[float | None, float | None] = (None, None)
        if start is not None and end is not None and not is_missing(columns[start][number]):
            begin_s, end_s = (_time(columns[one][number], path, number) for one in (start, end))
            if end_s < begin_s:
                raise ConfigError(
                    f"evaluate.annotations: {path}, row {number + 2} ends before it begins"
                )
            times = (begin_s, end_s)
        labels = parse_labels(columns[label][number], known)
        if SECONDARY in columns and label != SECONDARY:
            labels += parse_labels(columns[SECONDARY][number], known)
        rows += [(name, *times, one) for one in _or_none(labels)]
    return rows


def _rows_of_recordings(recordings: pl.DataFrame) -> list[Row]:
    rows: list[Row] = []
    columns = recordings.select("filename", "primary_label", SECONDARY)
    for name, primary, secondary in columns.iter_rows():
        labels = [label for label in (primary, *(secondary or ())) if label]
        rows += [(name, None, None, one) for one in _or_none(labels)]
    return rows


def _or_none(labels: list[str]) -> Sequence[str | None]:
    """Labels; a row without any is one with null."""
    return labels or (None,)


def _column(
    columns: Mapping[str, object], names: Sequence[str], given: str, path: Path
) -> str | None:
    """The column of a meaning: the one that is given, or the first of `names`, marks left out."""
    if given:
        if given not in columns:
            raise ConfigError(
                f"evaluate.label_column={given} is no column of {path}: there are "
                f"{', '.join(columns)}"
            )
        return given
    plain = {re.sub(r"[^a-z]", "", name.lower()): name for name in reversed(list(columns))}
    return next((plain[name] for name in names if name in plain), None)


def _time(cell: str, path: str | Path, number: int) -> float:
    seconds_s = parse_seconds(cell)
    if seconds_s is None or not math.isfinite(seconds_s):
        raise ConfigError(
            f"evaluate.annotations: {path}, row {number + 2}: {cell!r} is no time in seconds"
        )
    return seconds_s
