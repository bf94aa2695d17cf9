"""The Parquet tables of a store, part by part: index, recordings, rejects, plans.

The columns of all of them are named here, and other lists of columns are derived from these.
`index/part-00007.parquet` is the commit of part 7: without it, nothing of the part exists.
"""

import io
import re
from collections.abc import Iterable
from typing import Any

import polars as pl

from storage.audio import features
from storage.errors import DamageError
from storage.objects.protocol import Objects

INDEX = "index"
RECORDINGS = "recordings"
REJECTS = "rejects"
PLANS = "plans"
TABLES = (INDEX, RECORDINGS, REJECTS)

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
_NAME = re.compile(r"^(index|recordings|rejects|plans)/(?:part|plan)-(\d{5,})\.parquet$")


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


def table_numbers(objects: Objects, table: str) -> list[int]:
    """The numbers of the parts (or plans) that have such a table, in order."""
    matches = (_NAME.match(name) for name in objects.list(table))
    return sorted(int(match[2]) for match in matches if match)


def encode_table(frame: pl.DataFrame) -> bytes:
    """A frame as Parquet; equal frames give equal bytes."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=True)
    return buffer.getvalue()


def read_table(objects: Objects, table: str, number: int) -> pl.DataFrame:
    """One part's table; raises DamageError where it is no Parquet."""
    name = table_name(table, number)
    return decode_table(objects.get(name), objects.describe(name))


def decode_table(data: bytes, where: str) -> pl.DataFrame:
    """A table out of its bytes; `where` they are, for the DamageError that they are no Parquet."""
    try:
        return pl.read_parquet(io.BytesIO(data))
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise DamageError(f"{where} is damaged ({reason}): run tools.verify --repair") from error


def read_tables(objects: Objects, table: str, numbers: Iterable[int]) -> pl.DataFrame:
    """The tables of several parts as one, in the order of the parts, with the column `PART`."""
    numbers = list(numbers)
    names = [table_name(table, number) for number in numbers]
    frames = []
    for number, name, data in zip(numbers, names, objects.get_many(names), strict=True):
        frame = decode_table(data, objects.describe(name))
        frames.append(frame.with_columns(pl.lit(number, pl.Int32).alias(PART)))
    return join_parts(table, frames)


def join_parts(table: str, frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Joins the tables of several parts, each with its column `PART`; without any: an empty one."""
    if not frames:
        return pl.DataFrame(schema={**SCHEMAS[table], PART: pl.Int32})
    if table == INDEX:  # parts of an earlier version may lack a column
        frames = [pl.DataFrame(schema=INDEX_SCHEMA), *frames]
    return pl.concat(frames, how="diagonal_relaxed")
