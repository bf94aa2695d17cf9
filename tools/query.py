"""Look into a store with SQL: a table, a picture, Parquet, or arrays.

    python -m tools.query --sql "SELECT primary_label, COUNT(*) AS n FROM slices GROUP BY ALL"
    python -m tools.query --sql "SELECT * FROM slices WHERE max_db > 0" --limit 12 --png sheet.png
    python -m tools.query --sql "SELECT row FROM slices WHERE slice_no = 0" --npy first.npy

`slices` is the slice index joined with its recording's columns, `recordings` has one row each.
"""

import sys

from storage.errors import ConfigError
from storage.read.sql import collect
from storage.store import open_store
from tools.cli.command import Arguments, Command, run
from tools.cli.config import StoreSection
from tools.cli.slice_outputs import FLAGS, check_outputs, print_table, write_outputs

COMMAND = Command(
    doc=__doc__,
    sections=StoreSection,
    flags=(
        ("--sql", {"default": "SELECT * FROM slices", "help": "one SELECT (default: %(default)s)"}),
        ("--limit", {"type": int, "metavar": "N", "help": "at most N rows"}),
        *FLAGS,
    ),
)


def main(config: StoreSection, arguments: Arguments) -> None:
    """Runs one query and writes what was asked for; prints the table's head."""
    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"--limit {arguments.limit} must be at least 1")
    check_outputs(arguments)
    with open_store(config.store, config.remote) as store:
        found = store.query(arguments.sql)
        table = collect(found.head(arguments.limit) if arguments.limit else found)
        print_table(table)
        write_outputs(arguments, store, table)


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
