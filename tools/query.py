"""Look into a store with SQL: a table, a picture, Parquet, or arrays.

    python -m tools.query --sql "SELECT primary_label, COUNT(*) AS n FROM slices GROUP BY ALL"
    python -m tools.query --sql "SELECT * FROM slices WHERE max_db > 0" --limit 12 --png sheet.png
    python -m tools.query --sql "SELECT row FROM slices WHERE slice_no = 0" --npy first.npy

`slices` is the slice index joined with its recording's columns, `recordings` has one row each.
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

from storage.errors import ConfigError
from storage.output_files import output_file
from storage.read.sql import collect
from storage.store import Store, open_store
from tools.cli.command import Arguments, Command, run
from tools.cli.config import StoreSection
from tools.cli.output_files import MAX_PANELS, check_output
from tools.cli.terminal import terminal_width

COLUMN_WIDTH = 14  # of a table on a terminal, about; more columns are left out in the middle
COMMAND = Command(
    doc=__doc__,
    sections=StoreSection,
    flags=(
        ("--sql", {"default": "SELECT * FROM slices", "help": "one SELECT (default: %(default)s)"}),
        ("--limit", {"type": int, "metavar": "N", "help": "at most N rows"}),
        ("--png", {"metavar": "FILE", "help": "contact sheet of the slices found"}),
        ("--parquet", {"metavar": "FILE", "help": "the table as Parquet"}),
        ("--csv", {"metavar": "FILE", "help": "the table as csv, lists joined by spaces or ;"}),
        ("--npy", {"metavar": "FILE", "help": "the slices found as one array, [n, mels, frames]"}),
    ),
)


def main(config: StoreSection, arguments: Arguments) -> None:
    """Runs one query and writes what was asked for; prints the table's head."""
    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"--limit {arguments.limit} must be at least 1")
    for flag in WRITERS:
        check_output(f"--{flag}", getattr(arguments, flag))
    with open_store(config.store, config.remote) as store:
        found = store.query(arguments.sql)
        table = collect(found.head(arguments.limit) if arguments.limit else found)
        width = terminal_width()
        columns = max(3, width // COLUMN_WIDTH)
        with pl.Config(tbl_rows=20, tbl_cols=columns, fmt_str_lengths=24, tbl_width_chars=width):
            print(table)
        for flag, write in WRITERS.items():
            if target := getattr(arguments, flag):
                write(store, table, Path(target))
                print(f"{flag}: {target}")


def _write_png(store: Store, table: pl.DataFrame, target: Path) -> None:
    from tools.cli.contact_sheet import write_contact_sheet  # matplotlib takes a second to import

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
    texts = {column.name: column for column in table.get_columns()}
    for name, column in texts.items():
        if isinstance(column.dtype, pl.List):
            entries = column.cast(pl.List(pl.String))
            has_blanks = entries.explode().str.contains(" ").any()
            texts[name] = entries.list.join(";" if has_blanks else " ")
    with output_file(target) as file:
        pl.DataFrame(texts).write_csv(file)


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


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
