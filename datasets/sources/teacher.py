"""Embeddings of a teacher, to be learned together with the labels: reads them, finds them by row.

    teacher = read_teacher(source, recordings, rows, TeacherFiles(embeddings="embeddings.parquet"))
    teacher.of(rows)  # float32 [n, D], NaN where there is none

A file is a Parquet table with `recording_id`, a list column `embedding`, and `row` or `slice_no`,
as `tools.embed` writes it, or as the embeddings.parquet of an experiment. Without either number a
line holds for a whole recording. Lines are joined with slices as soft targets are
(`datasets.targets`); lines that are null or not finite count as missing.

Shapes: n samples, K slices of a sample, D numbers of an embedding.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import polars as pl

from datasets.slice_source import ID_IN_SOURCE, SOURCE, SliceSource
from datasets.targets import match_slices
from storage.errors import ConfigError
from storage.options import check_choice, option

METADATA = "melbank.embeddings"  # key of what tools.embed says of its file
EMBEDDING = "embedding"
REFUSE, SKIP = "refuse", "skip"
FLOAT32, FLOAT16 = "float32", "float16"
HASHED_LINES = 4096  # at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherFiles:
    """Config of the files of embeddings."""

    embeddings: str = option("", "Parquet of tools.embed: embeddings of a teacher, to be learned")
    sources: dict[str, str] = field(
        default_factory=dict,
        metadata={"help": "instead, a file for each source of a mix, as teacher.sources.focal="},
    )
    missing: str = option(
        REFUSE, "slices without an embedding: refuse, or skip (they learn their labels alone)"
    )
    memory: str = option(FLOAT32, "held in memory as float32, or float16 for half of the bytes")

    def __post_init__(self) -> None:
        check_choice(self, "teacher", "missing", (REFUSE, SKIP))
        check_choice(self, "teacher", "memory", (FLOAT32, FLOAT16))
        if self.embeddings and self.sources:
            raise ConfigError(
                "teacher.embeddings= is a file for all recordings, teacher.sources.NAME= one for "
                "those of a source: give either"
            )

    @property
    def given(self) -> bool:
        """True where there is a teacher."""
        return bool(self.embeddings or self.sources)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TeacherTable:
    """Lines of one file: keys of their slices, and `values` float32 [lines, D], all finite."""

    title: str
    keys: pl.DataFrame
    number: str | None  # row or slice_no; None where a line holds for a whole recording
    values: np.ndarray
    store_id: str | None  # by the file's metadata


class Teacher:
    """Embeddings by row: of `rows` int64 [N], increasing, the lines int64 [N] of `values`.

    Takes memory for those lines, and 16 bytes a slice.
    """

    def __init__(self, rows: np.ndarray, line: np.ndarray, values: np.ndarray) -> None:
        self.rows = rows
        self._line = line
        self._values = values
        self.width = int(values.shape[1])
        self.digest = self._digest()

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Returns float32 [n, D] of int64 rows [n], NaN where there is none.

        Of rows [n, K], samples of several slices, it is the mean of those that have one.
        """
        flat = rows.reshape(-1)
        found, values = self._find(flat)
        if rows.ndim == 1:
            return values
        found_nK = found.reshape(rows.shape)
        values_nKD = values.reshape(*rows.shape, self.width)
        sums_nD = np.where(found_nK[:, :, None], values_nKD, 0).sum(1)
        counts_n1 = found_nK.sum(1)[:, None]
        means_nD = sums_nD / np.maximum(counts_n1, 1)
        return np.where(counts_n1 > 0, means_nD, np.nan).astype(np.float32)

    def _find(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns a mask of the rows that have an embedding, bool [n], and float32 [n, D]."""
        index = np.searchsorted(self.rows, rows).clip(max=len(self.rows) - 1)
        found: np.ndarray = self.rows[index] == rows
        values = np.full((len(rows), self.width), np.nan, np.float32)
        values[found] = self._values[self._line[index[found]]]
        return found, values

    def _digest(self) -> str:
        """Returns 16 hex digits of the rows and their embeddings, not of the bytes of the file."""
        state = blake2b(self.rows.astype("<i8").tobytes(), digest_size=8)
        for start in range(0, len(self._line), HASHED_LINES):
            lines = self._line[start : start + HASHED_LINES]
            state.update(self._values[lines].astype("<f4").tobytes())
        return state.hexdigest()


def read_teacher(
    source: SliceSource, recordings: pl.DataFrame, rows: np.ndarray, files: TeacherFiles
) -> Teacher:
    """Reads the embeddings of a training.

    `recordings` are those to learn from, `rows` int64 their slices. Raises ConfigError where a file
    is invalid, of another store, or lacks slices against the rule.
    """
    tables = [_read_matched(source, recordings, *one, files.memory) for one in _paths(files)]
    titles = ", ".join(table.title for table, _, _ in tables)
    widths = {table.values.shape[1]: table.title for table, _, _ in tables}
    if len(widths) > 1:
        told = ", ".join(f"{width} in {title}" for width, title in widths.items())
        raise ConfigError(f"the embeddings of a teacher must be of one length: {told}")
    starts = np.cumsum([0, *(len(table.values) for table, _, _ in tables)]).tolist()
    lines = [line + start for (_, _, line), start in zip(tables, starts[:-1], strict=True)]
    all_rows = np.concatenate([found for _, found, _ in tables])
    order = np.argsort(all_rows)
    values = np.concatenate([table.values for table, _, _ in tables])
    teacher = Teacher(all_rows[order], np.concatenate(lines)[order], values)
    if files.missing == REFUSE:
        _check_complete(teacher, recordings, rows, titles)
    return teacher


def read_teacher_table(path: str, title: str) -> TeacherTable:
    """Reads a file of embeddings; raises ConfigError, beginning with its title, on anything else.

    Lines without an embedding, or with one that is not finite, are left out.
    """
    try:
        frame = pl.read_parquet(path, glob=False)
        about = pl.read_parquet_metadata(path).get(METADATA)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(
            f"{title}: {str(error).splitlines()[0]}: give a file of python -m tools.embed"
        ) from error
    number = next((name for name in ("slice_no", "row") if name in frame.columns), None)
    if "recording_id" not in frame.columns or EMBEDDING not in frame.columns:
        raise ConfigError(
            f"{title} needs recording_id and {EMBEDDING}, as tools.embed writes them; it has "
            f"{', '.join(frame.columns[:10])}"
        )
    frame = frame.drop_nulls(EMBEDDING)
    values = _matrix(frame[EMBEDDING], title)
    finite = np.isfinite(values).all(1)
    if not finite.any():
        raise ConfigError(f"{title} has no finite embedding in its {len(frame)} lines: embed again")
    wanted = ("recording_id", SOURCE, number)
    keys = frame.select(name for name in wanted if name in frame.columns).filter(pl.Series(finite))
    if keys.is_duplicated().any():
        first = keys.filter(keys.is_duplicated()).row(0)
        raise ConfigError(f"{title} has several lines for {first}: keep one of them")
    return TeacherTable(
        title=title,
        keys=keys,
        number=number,
        values=values[finite],
        store_id=_store_id(about),
    )


def _paths(files: TeacherFiles) -> Iterator[tuple[str, str, str]]:
    """Yields the source that a file is for, its path, and its title in messages."""
    if files.embeddings:
        yield "", files.embeddings, f"teacher.embeddings={files.embeddings}"
    for name, path in files.sources.items():
        yield name, path, f"teacher.sources.{name}={path}"


def _read_matched(
    source: SliceSource, recordings: pl.DataFrame, name: str, path: str, title: str, memory: str
) -> tuple[TeacherTable, np.ndarray, np.ndarray]:
    """Returns a table, its rows int64 [N] of the source, and their lines int64 [N]."""
    table = read_teacher_table(path, title)
    if name:
        recordings = recordings.filter(pl.col(SOURCE) == name)
    elif SOURCE in recordings.columns:
        _check_told_apart(table, recordings)
    elif table.store_id not in (None, source.store_id):
        raise ConfigError(
            f"{title} has embeddings of the store {table.store_id}, but {source.url} is "
            f"{source.store_id}: embed the slices of this one"
        )
    slices = match_slices(table, recordings)
    lines, line = np.unique(slices.line, return_inverse=True)  # of other recordings: not held
    kept = TeacherTable(
        title=title,
        keys=table.keys[lines],
        number=table.number,
        values=_as(table.values[lines], memory, title),
        store_id=table.store_id,
    )
    return kept, slices.rows, line


def _check_told_apart(table: TeacherTable, recordings: pl.DataFrame) -> None:
    """Raises ConfigError where a line could be of recordings of two sources."""
    if SOURCE in table.keys.columns or ID_IN_SOURCE not in recordings.columns:
        return
    ids = recordings.select(pl.coalesce(ID_IN_SOURCE, "recording_id")).to_series()
    shared = ids.filter(ids.is_duplicated() & ids.is_in(table.keys["recording_id"].implode()))
    if len(shared):
        raise ConfigError(
            f"{table.title}: {shared[0]} is a recording of several sources: give a file for each, "
            "as teacher.sources.NAME="
        )


def _check_complete(
    teacher: Teacher, recordings: pl.DataFrame, rows: np.ndarray, title: str
) -> None:
    """Raises ConfigError where a slice to learn from has no embedding."""
    lacking = np.setdiff1d(rows, teacher.rows)
    if len(lacking):
        first_row = recordings["first_row"].to_numpy()
        number = int(np.searchsorted(first_row, lacking[0], side="right")) - 1
        raise ConfigError(
            f"{title}: {len(lacking):,} of {len(rows):,} slices to learn from have no embedding, "
            f"the first in {recordings['recording_id'][number]}: embed all of the store, or set "
            f"teacher.missing={SKIP}"
        )


def _matrix(embeddings: pl.Series, title: str) -> np.ndarray:
    """Returns float32 [lines, D] of a column of lists of numbers; raises ConfigError."""
    if isinstance(embeddings.dtype, pl.Array):
        embeddings = embeddings.arr.to_list()
    if not isinstance(embeddings.dtype, pl.List) or not embeddings.dtype.inner.is_numeric():
        raise ConfigError(f"{title}: the column {EMBEDDING} has {embeddings.dtype}, not numbers")
    widths = embeddings.list.len().unique().to_list()
    if len(widths) != 1 or not widths[0]:
        raise ConfigError(f"{title} has embeddings of {len(widths)} lengths: embed again")
    numbers = embeddings.explode().cast(pl.Float32).fill_null(float("nan")).to_numpy()
    return np.ascontiguousarray(numbers.reshape(len(embeddings), widths[0]))


def _as(values: np.ndarray, memory: str, title: str) -> np.ndarray:
    """Returns values in the type of `teacher.memory`; raises ConfigError where one overflows."""
    if memory == FLOAT32:
        return values
    largest = float(np.abs(values).max())
    if largest > float(np.finfo(np.float16).max):
        raise ConfigError(
            f"{title} has values up to {largest:.3g}, more than float16 holds: set "
            f"teacher.memory={FLOAT32}"
        )
    return values.astype(np.float16)


def _store_id(about: str | None) -> str | None:
    """Returns the store that a file's metadata names, if it does."""
    try:
        values = json.loads(about or "{}")
    except ValueError:
        return None
    found = values.get("store_id") if isinstance(values, Mapping) else None
    return found if isinstance(found, str) else None
