"""Show what a training would hold out: recordings and groups of each class in each fold.

    python -m tools.folds
    python -m tools.folds folds.num_folds=10 folds.group_by=site --csv folds.csv
    python -m tools.folds --config configs/birdclef2025.yaml --parquet folds.parquet

Takes the same keys as tools.train. Prints a line per class, and names the classes that cannot be
scored: those that are never held out, and those in one fold alone. --csv and --parquet write all
lines, with common names and the reason. Reads the tables alone, no slices.
"""

import shutil
import sys
from pathlib import Path

from storage.output_files import output_file
from tools.cli.command import Arguments, Command, run
from tools.cli.output_files import check_output
from tools.cli.training_inputs import TrainSections, open_training
from training.fold_table import tabulate_folds
from training.split import split_recordings

COMMAND = Command(
    doc=__doc__,
    sections=TrainSections,
    flags=(
        ("--csv", {"metavar": "FILE", "help": "write the table as csv"}),
        ("--parquet", {"metavar": "FILE", "help": "write the table as Parquet"}),
    ),
)


def main(config: TrainSections, arguments: Arguments) -> None:
    """Prints the table, writes it where asked for."""
    for flag in ("csv", "parquet"):
        check_output(f"--{flag}", getattr(arguments, flag))
    table = tabulate_folds(split_recordings(open_training(config), config), config)
    print(table.text(shutil.get_terminal_size().columns))
    print("\n".join(["", *table.notes]))
    if arguments.csv:
        with output_file(Path(arguments.csv)) as file:
            table.frame().write_csv(file)
    if arguments.parquet:
        with output_file(Path(arguments.parquet)) as file:
            table.frame().write_parquet(file)


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
