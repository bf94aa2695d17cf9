"""Files that commands write of the slices that they have found: PNG, Parquet, csv, npy.

FLAGS               # of argparse, for a command's own
check_outputs(arguments)
write_outputs(arguments, store, table)
"""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from storage.errors import ConfigError
from storage.output_files import output_file
from storage.store import Store
from tools.cli.output_files import MAX_PANELS, check_output
from tools.cli.terminal import terminal_width

COLUMN_WIDTH = 14  # of a table on a terminal, about; more columns are left out in the middle

FLAGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--png", {"metavar": "FILE", "help": "contact sheet of the slices found"}),
    ("--parquet", {"metavar": "FILE", "help": "the table as Parquet"}),
    ("--csv", {"metavar": "FILE", "help": "the table as csv, lists joined by spaces or ;"}),
    ("--npy", {"metavar": "FILE", "help": "the slices found as one array, [n, mels, frames]"}),
)


def check_outputs(arguments: Namespace) -> None:
    """Raises ConfigError where a file that was asked for cannot be written."""
    for flag in WRITERS:
        check_output(f"--{flag}", getattr(arguments, flag))


def print_table(table: pl.DataFrame) -> None:
    """Prints the head of a table, as wide as the terminal."""
    width = terminal_width()
    columns = max(3, width // COLUMN_WIDTH)
    with pl.Config(tbl_rows=20, tbl_cols=columns, fmt_str_lengths=24, tbl_width_chars=width):
        print(table)


def write_outputs(arguments: Namespace, store: Store, table: pl.DataFrame) -> None:
    """Writes the files that were asked for, of a table with the column `row`."""
    for flag, write in WRITERS.items():
        if target := getattr(arguments, flag):
            write(store, table, Path(target))
            print(f"{flag}: {target}")


def _write_png(store: Store, table: pl.DataFrame, target: Path) -> None:
    from tools.cli.sheets.contact_sheet import (
        write_contact_sheet,  # matplotlib takes a second to import
    )

    shown = table.head(MAX_PANELS)
    if len(shown) < len(table):
        print(f"the sheet shows the first {MAX_PANELS} of {len(table):,} slices", file=sys.stderr)
    cells = _cells(store, shown)
    with output_file(target) as file:
        write_contact_sheet(cells, store.recipe, _titles(store, shown), file)


def _write_parquet(_: Store, table: pl.DataFrame, target: Path) -> None:
    with output_file(target) as file:
        table.write_parquet(file)


def _write_csv(_: Store, table: pl.DataFrame, target: Path) -> None:
    with output_file(target) as file:
        flat_lists(table).write_csv(file)


def flat_lists(table: pl.DataFrame) -> pl.DataFrame:
    """A table for csv: lists joined by spaces, or by ; where an entry has a space."""
    texts = {column.name: column for column in table.get_columns()}
    for name, column in texts.items():
        if isinstance(column.dtype, pl.List):
            entries = column.cast(pl.List(pl.String))
            has_blanks = entries.explode().str.contains(" ").any()
            texts[name] = entries.list.join(";" if has_blanks else " ")
    return pl.DataFrame(texts)


def _write_npy(store: Store, table: pl.DataFrame, target: Path) -> None:
    cells = _cells(store, table)
    with output_file(target) as file, file.open("wb") as opened:  # by a name, .npy is appended
        np.save(opened, cells, allow_pickle=False)


WRITERS = {"png": _write_png, "parquet": _write_parquet, "csv": _write_csv, "npy": _write_npy}


def _cells(store: Store, table: pl.DataFrame) -> np.ndarray:
    if "row" not in table.columns:
        raise ConfigError("--png and --npy need the column `row` in the SELECT")
    if table.is_empty():
        raise ConfigError("the query found no slices: there is nothing to draw or to write")
    return store.slices(table)


def _titles(store: Store, table: pl.DataFrame) -> list[str]:
    """Species and place in the recording of each slice, whatever columns were selected."""
    columns = store.recordings().columns
    names = [name for name in ("common_name", "primary_label") if name in columns]
    known = store.slice_table().select(
        "row", "recording_id", "start_s", pl.coalesce(names).alias("name")
    )
    rows = table.select("row").join(known.collect(), on="row", how="left", maintain_order="left")
    return [
        f"{name}\n{recording_id.rsplit('/')[-1]}  {start_s:.1f} s"
        for _, recording_id, start_s, name in rows.iter_rows()
    ]
