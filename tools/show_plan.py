"""Show what an epoch of a training holds, without training.

    python -m tools.show_plan store=data/store
    python -m tools.show_plan --config configs/exp_001.yaml --fold 2 --epoch 5
    python -m tools.show_plan sampling.balance=uniform "sampling.where='NOT silent'"
    python -m tools.show_plan store=data/store --parquet plan.parquet

Takes the same keys as tools.train. Prints, for each source and primary label, how many recordings
there are and are seen, how many samples, and their share. `--parquet` writes the plan itself:
position, row, recording_id, source, slice_no. Reads the index alone, no slices.
"""

import sys
from pathlib import Path

import polars as pl

from storage.output_files import output_file
from tools.cli.command import Arguments, Command, run
from tools.cli.output_files import check_output
from tools.cli.terminal import terminal_width
from tools.cli.training_inputs import TrainSections, check_epoch, open_training
from training.split import fold_data, split_recordings

COMMAND = Command(
    doc=__doc__,
    sections=TrainSections,
    flags=(
        ("--epoch", {"type": int, "default": 0, "help": "which epoch (default: %(default)s)"}),
        ("--fold", {"type": int, "help": "held out (default: the first of train_folds)"}),
        ("--parquet", {"metavar": "FILE", "help": "write the plan into FILE"}),
    ),
)


def main(config: TrainSections, arguments: Arguments) -> None:
    """Prints the table, writes the plan where asked for."""
    check_epoch(arguments.epoch)
    check_output("--parquet", arguments.parquet)
    source = open_training(config)
    split = split_recordings(source, config)
    fold = split.train_folds[0] if arguments.fold is None else split.check_fold(arguments.fold)
    plan = fold_data(source, split, fold, config).planner()(arguments.epoch)
    with pl.Config(tbl_rows=-1, tbl_width_chars=terminal_width()) as look:
        look.set_tbl_hide_column_data_types().set_tbl_hide_dataframe_shape()
        print(plan.describe())
    seen = plan.describe()["recordings_seen"].sum()
    print(
        f"fold {fold} held out, epoch {arguments.epoch}: {len(plan):,} samples of {seen:,} "
        f"recordings, of {len(plan.recordings):,} to learn from; plan {plan.digest}"
    )
    if arguments.parquet:
        with output_file(Path(arguments.parquet)) as file:
            plan.write_parquet(file)


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
