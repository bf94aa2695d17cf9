"""The Parquet tables of a store, part by part: index, recordings, rejects, plans.

The columns of all of them are named here, and other lists of columns are derived from these.
`index/part-00007.parquet` is the commit of part 7: without it, nothing of the part exists.
"""

import io
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import polars as pl

from storage.audio import features
from storage.objects.protocol import Objects
from storage.untrusted import MAX_ROW, TableRule, decode_parquet, decode_parquets

INDEX = "index"
RECORDINGS = "recordings"
REJECTS = "rejects"
PLANS = "plans"
TABLES = (INDEX, RECORDINGS, REJECTS)
GetMany = Callable[[Sequence[str]], list[bytes]]

STORED, PARTIAL, DUPLICATE = "stored", "partial", "duplicate"

INDEX_SCHEMA = {
    "row": pl.Int64,
    "recording_id": pl.String,
    "slice_no": pl.Int32,
    "start_s": pl.Float64,
    **features.SCHEMA,
    "crc32c": pl.UInt32,
}
RECORDING_SCHEMA = {
    "recording_id": pl.String,
    "primary_label": pl.String,
    "secondary_labels": pl.List(pl.String),
    "filename": pl.String,
    "duration_s": pl.Float64,
    "sample_rate_hz": pl.Int32,
    "num_channels": pl.Int32,
    "first_row": pl.Int64,
    "num_slices": pl.Int32,
    "status": pl.String,
    "duplicate_of": pl.String,
    "content_hash": pl.String,
    "size_bytes": pl.Int64,
}
REJECT_SCHEMA = {
    "recording_id": pl.String,
    "filename": pl.String,
    "reason": pl.String,
    "partial": pl.Boolean,
    "content_hash": pl.String,
}
PLAN_SCHEMA = {
    "part": pl.Int32,
    "first_shard": pl.Int64,
    "num_shards": pl.Int32,
    "recording_id": pl.String,
    "filename": pl.String,
    "content_hash": pl.String,
    "expected_slices": pl.Int64,
    "duplicate_of": pl.String,
    "reason": pl.String,
}
SCHEMAS: dict[str, dict[str, Any]] = {
    INDEX: INDEX_SCHEMA,
    RECORDINGS: RECORDING_SCHEMA,
    REJECTS: REJECT_SCHEMA,
    PLANS: PLAN_SCHEMA,
}
LABEL_COLUMNS = ("primary_label", "secondary_labels", "filename")
OUR_COLUMNS = (  # of the index and of the recordings; a csv cannot give them
    *(name for name in INDEX_SCHEMA | RECORDING_SCHEMA if name not in LABEL_COLUMNS),
)
PART = "#part"  # column of the tables of several parts: the number of the part of a row
RECORDING_NO = "#recording_no"  # column of an index: position of a row's recording
RESERVED = (  # names that no column of a csv keeps; the last two are a mix's of several sources
    *OUR_COLUMNS,
    PART,
    RECORDING_NO,
    "source",
    "own_recording_id",
)
_WHOLE_ROW = (0, MAX_ROW - 1)
RULES = {
    INDEX: TableRule(
        schema=INDEX_SCHEMA,
        filled=("row", "recording_id", "slice_no", "start_s", "crc32c"),
        ranges={"row": _WHOLE_ROW, "slice_no": (0, 2**31 - 1)},
        rising="row",
        optional=(*features.SCHEMA,),
    ),
    RECORDINGS: TableRule(
        schema=RECORDING_SCHEMA,
        filled=("recording_id", "filename", "num_slices", "status"),
        ranges={"first_row": _WHOLE_ROW, "num_slices": (0, 2**31 - 1)},
    ),
    REJECTS: TableRule(schema=REJECT_SCHEMA),
    PLANS: TableRule(
        schema=PLAN_SCHEMA,
        filled=("part", "first_shard", "num_shards", "recording_id", "expected_slices"),
        ranges={
            "part": (0, 2**31 - 2),
            "first_shard": (0, 2**29),
            "num_shards": (1, 2**24),
            "expected_slices": (0, 2**34),
        },
    ),
}
_NAME = re.compile(r"^(index|recordings|rejects|plans)/(?:part|plan)-(\d{5,9})\.parquet$")


def given_names(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """The name in a store of each column of a csv: with `csv_` before it where it is reserved.

    Once more, until no other column has it; `taken` are names that are given already.
    """
    names = list(names)
    known = {*names, *taken, *RESERVED}
    found = {}
    for name in names:
        free = name
        while free in RESERVED or (free != name and free in known):
            free = f"csv_{free}"
        known.add(free)
        found[name] = free
    return found


def table_name(table: str, number: int) -> str:
    """The object name of one part's table, or of a plan."""
    return f"{table}/{'plan' if table == PLANS else 'part'}-{number:05d}.parquet"


def is_table_name(name: str) -> bool:
    """True where an object is named as a table is."""
    return _NAME.match(name) is not None


def table_numbers(objects: Objects, table: str) -> list[int]:
    """The numbers of the parts (or plans) that have such a table, in order."""
    return numbers_in(objects.list(table), table)


def numbers_in(names: Iterable[str], table: str) -> list[int]:
    """The numbers of the parts (or plans) whose table is among some names, in order."""
    matches = (_NAME.match(name) for name in names)
    return sorted(int(match[2]) for match in matches if match and match[1] == table)


def encode_table(frame: pl.DataFrame) -> bytes:
    """A frame as Parquet; equal frames give equal bytes."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=True)
    return buffer.getvalue()


def read_table(objects: Objects, table: str, number: int) -> pl.DataFrame:
    """One part's table; raises DamageError where it is no Parquet."""
    name = table_name(table, number)
    return decode_table(table, objects.get(name), objects.describe(name))


def decode_table(
    table: str, data: bytes, where: str, columns: list[str] | None = None
) -> pl.DataFrame:
    """Decodes a table, or some columns; DamageError, naming `where` it is, on a damaged one."""
    way_out = "run tools.verify --repair"
    if table == PLANS:  # no other columns: the plan of a recording's `path` is the source's
        columns, way_out = [*PLAN_SCHEMA], "delete it and build again"
    return decode_parquet(data, where, RULES[table], way_out, columns)


def read_tables(
    objects: Objects, table: str, numbers: Iterable[int], get_many: GetMany | None = None
) -> pl.DataFrame:
    """The tables of several parts as one, in the order of the parts, with the column `PART`.

    `get_many` reads the objects in place of the one that they have themselves.
    """
    return read_several(objects, [table], numbers, get_many)[0]


def read_several(
    objects: Objects,
    tables: Sequence[str],
    numbers: Iterable[int],
    get_many: GetMany | None = None,
) -> list[pl.DataFrame]:
    """Several kinds of tables of some parts, each as `read_tables` has it; faster than in turn."""
    numbers = list(numbers)
    names = [table_name(table, number) for table in tables for number in numbers]
    found = iter((get_many or objects.get_many)(names))
    groups = [[*islice(found, len(numbers))] for _ in tables]
    rules = [RULES[table] for table in tables]
    decoded = decode_parquets([*zip(rules, groups, strict=True)])
    frames = []
    for table, group, equal in zip(tables, groups, decoded, strict=True):
        if equal is None or not _is_as_written(table, equal[0]):
            frames.append(_join_one_by_one(objects, table, numbers, group))
        else:
            frames.append(_with_part(equal[0], np.repeat(np.array(numbers, np.int32), equal[1])))
    return frames


def _is_as_written(table: str, frame: pl.DataFrame) -> bool:
    """False where columns are to be chosen or put in order."""
    return {
        INDEX: frame.columns[: len(INDEX_SCHEMA)] == [*INDEX_SCHEMA],
        PLANS: frame.columns == [*PLAN_SCHEMA],
    }.get(table, True)


def _join_one_by_one(
    objects: Objects, table: str, numbers: list[int], found: list[bytes]
) -> pl.DataFrame:
    """Decodes tables that differ in columns, or of which one is damaged: DamageError names it."""
    frames = []
    for number, data in zip(numbers, found, strict=True):
        frame = decode_table(table, data, objects.describe(table_name(table, number)))
        frames.append(_with_part(frame, np.full(len(frame), number, np.int32)))
    return join_parts(table, frames)


def _with_part(frame: pl.DataFrame, parts: np.ndarray) -> pl.DataFrame:
    """Adds the column `PART`, last. An expression would take as long as decoding a small table."""
    frame = frame.drop(PART) if PART in frame.columns else frame
    return frame.hstack([pl.Series(PART, parts)])


def join_parts(table: str, frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Joins the tables of several parts, each with its column `PART`; without any: an empty one."""
    if not frames:
        return pl.DataFrame(schema={**SCHEMAS[table], PART: pl.Int32})
    if table == INDEX:  # parts of an earlier version may lack a column
        frames = [pl.DataFrame(schema=INDEX_SCHEMA), *frames]
    return pl.concat(frames, how="diagonal_relaxed")
