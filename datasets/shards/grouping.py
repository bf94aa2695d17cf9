"""Groups the samples of tars into recordings with rows, slice numbers and labels."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from datasets.shards.format import ABOUT_RECORDING
from storage.errors import ConfigError, DamageError, StoreError
from storage.format.tables import LABEL_COLUMNS, given_names
from storage.source.cells import tidy_label, typed_column
from storage.source.csv_text import TextTable, read_csv
from storage.source.label_lists import parse_labels
from storage.source.recordings import without_ending


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collected:
    """Recordings, sorted by first_row, and the lines of their slices."""

    recordings: pl.DataFrame
    lines: pl.DataFrame
    notes: list[str] = field(default_factory=list)


def collect_written(samples: pl.DataFrame) -> Collected:
    """Collects the recordings of tars written by melbank; the last tar of a recording counts.

    Raises DamageError where slices of a recording are missing.
    """
    missing = samples.filter(pl.any_horizontal(pl.col("recording_id", "row", "slice_no").is_null()))
    if len(missing):
        shard, key = missing.select("shard", "key").row(0)
        raise DamageError(f"{shard}: the .json of {key} lacks recording_id, row or slice_no")
    lines = samples.filter(pl.col("shard") == pl.col("shard").max().over("recording_id"))
    lines = lines.sort("row")
    first = pl.col("row", "slice_no").first().over("recording_id").name.prefix("first_")
    broken = lines.with_columns(first).filter(
        (pl.col("row") - pl.col("first_row") != pl.int_range(pl.len()).over("recording_id"))
        | (pl.col("first_slice_no") != 0)
        | pl.col("row").is_duplicated()
    )
    if len(broken):
        shard, name = broken.select("shard", "recording_id").row(0)
        raise DamageError(f"{shard}: slices of {name} are missing or out of order: write it again")
    return Collected(recordings=_group(lines), lines=lines)


def collect_foreign(samples: pl.DataFrame, pattern: str | None) -> Collected:
    """Gives the samples of foreign tars recordings, rows and slice numbers.

    The recording id is the match of `pattern` in the key, else the .json's recording_id, else the
    key. Raises StoreError on a duplicate key, and ConfigError on a key without the pattern.
    """
    twice = samples.filter(pl.col("key").is_duplicated())
    if len(twice):
        key = twice["key"][0]
        shards = twice.filter(pl.col("key") == key)["shard"].to_list()
        raise StoreError(
            f"the key {key} is in {shards[0]} and in {shards[1]}: keys must differ over all tars "
            "of a set. Remove one tar if it is a copy, or rewrite them"
        )
    if pattern:
        find = _finder(pattern)
        ids = pl.Series("recording_id", [find(key) for key in samples["key"]], pl.String)
    else:
        ids = samples.select(pl.coalesce("recording_id", "key").alias("recording_id")).to_series()
    lines = samples.with_columns(ids, pl.int_range(pl.len()).alias("sample_no"))
    lines = lines.sort(pl.col("sample_no").min().over("recording_id"), "slice_no", "sample_no")
    lines = lines.with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("row"),
        pl.int_range(pl.len(), dtype=pl.Int32).over("recording_id").alias("slice_no"),
    )
    named = pl.coalesce("filename", "recording_id").alias("filename")
    return Collected(recordings=_group(lines).with_columns(named), lines=lines)


def check_labels(found: Collected) -> None:
    """Raises ConfigError where the samples of a recording have different labels."""
    several = (
        found.lines.group_by("recording_id", maintain_order=True)
        .agg(pl.col("primary_label").unique(maintain_order=True).alias("labels"))
        .filter(pl.col("labels").list.len() > 1)
    )
    if len(several):
        name, labels = several.row(0)
        raise ConfigError(
            f"the recording {name} has several labels ({', '.join(map(str, labels[:5]))}): give "
            "another index_shards.recording_pattern, or labels in index_shards.recordings"
        )


def with_labels(found: Collected, path: Path) -> Collected:
    """Joins the recordings with a csv or Parquet file; recordings that it lacks are dropped.

    A file with `first_row` (a recordings.parquet of ours) must also match in rows. Raises
    ConfigError on a file that is no table of recordings, or that has none of these.
    """
    table = _read_recordings(path)
    keys = ["recording_id"]
    if "first_row" in table.columns:
        table = table.filter(pl.col("num_slices") > 0)
        keys = ["recording_id", "first_row", "num_slices"]
    ranges = found.recordings.select("recording_id", "first_row", "num_slices")
    extra = [name for name in ABOUT_RECORDING if name not in table.columns]
    kept = ranges.join(found.recordings.select("recording_id", *extra), on="recording_id").join(
        table, on=keys, how="inner", maintain_order="left"
    )
    if kept.is_empty():
        raise ConfigError(
            f"index_shards.recordings={path} names none of the {len(ranges):,} recordings in the "
            f"tars: {ranges['recording_id'][0]!r} is one there, {table['recording_id'][0]!r} here"
        )
    first = [] if "first_row" in table.columns else [*ABOUT_RECORDING, "first_row", "num_slices"]
    kept = kept.select(*dict.fromkeys([*first, *table.columns, *kept.columns]))
    notes = list(found.notes)
    if len(kept) < len(ranges):
        notes.append(f"{len(ranges) - len(kept):,} recordings are not in {path}: left out")
    if len(kept) < len(table):
        notes.append(f"{len(table) - len(kept):,} recordings of {path} are in no tar")
    lines = found.lines.join(kept, on="recording_id", how="semi", maintain_order="left")
    return replace(found, recordings=kept.sort("first_row"), lines=lines, notes=notes)


def _group(lines: pl.DataFrame) -> pl.DataFrame:
    """Groups lines, sorted by row, to one line per recording."""
    about = [name for name in ABOUT_RECORDING if name != "recording_id"]
    return (
        lines.group_by("recording_id", maintain_order=True)
        .agg(
            *(pl.col(name).first() for name in about),
            pl.col("row").first().alias("first_row"),
            pl.len().cast(pl.Int32).alias("num_slices"),
        )
        .sort("first_row")
    )


def _finder(pattern: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def find(key: str) -> str:
        match = compiled.search(key)
        name = match and (match[1] if compiled.groups else match[0])
        if not name:
            raise ConfigError(
                f"index_shards.recording_pattern={pattern!r} finds nothing in the key {key!r}"
            )
        return name

    return find


def _read_recordings(path: Path) -> pl.DataFrame:
    """Reads a table with recording_id, primary_label, secondary_labels and filename."""
    try:
        if path.suffix == ".parquet":
            table = pl.read_parquet(path, glob=False)
        else:
            table = _frame(read_csv(path.read_bytes(), str(path)))
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"index_shards.recordings={path} cannot be read: {reason}") from error
    known = {"recording_id", "filename"} & set(table.columns)
    if not known or "primary_label" not in table.columns:
        raise ConfigError(
            f"index_shards.recordings={path} has the columns {', '.join(table.columns)}; it needs "
            "primary_label, and recording_id or filename"
        )
    if "recording_id" not in known:
        ids = [without_ending(name or "") for name in table["filename"]]
        table = table.with_columns(pl.Series("recording_id", ids, pl.String))
    if "secondary_labels" not in table.columns:
        table = table.with_columns(pl.lit([], pl.List(pl.String)).alias("secondary_labels"))
    elif table.schema["secondary_labels"] == pl.String:
        known = set(table["primary_label"].drop_nulls())
        second = [parse_labels(text, known) for text in table["secondary_labels"]]
        table = table.with_columns(pl.Series("secondary_labels", second, pl.List(pl.String)))
    if table["recording_id"].is_duplicated().any():
        name = table.filter(pl.col("recording_id").is_duplicated())["recording_id"][0]
        raise ConfigError(f"index_shards.recordings={path} names {name} twice")
    return table


def _frame(csv: TextTable) -> pl.DataFrame:
    """A csv as a frame: labels and names as text, the others typed by their cells."""
    text = {*LABEL_COLUMNS, "recording_id"} & set(csv.columns)
    names = given_names(name for name in csv.columns if name not in text)
    columns = []
    for name, cells in csv.columns.items():
        if name in text:
            columns.append(pl.Series(name, [tidy_label(cell) for cell in cells], pl.String))
        else:
            columns.append(typed_column(names[name], cells, decimal_comma=csv.decimal_comma))
    return pl.DataFrame({column.name: column for column in columns})
