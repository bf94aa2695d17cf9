"""Show what an epoch of a training holds, without training.

    python -m tools.show_plan store=data/store
    python -m tools.show_plan --config configs/exp_001.yaml --fold 2 --epoch 5
    python -m tools.show_plan sampling.balance=uniform "sampling.where='NOT silent'"
    python -m tools.show_plan store=data/store --parquet plan.parquet

Takes the same keys as tools.train. Prints, for each source and primary label, how many recordings
there are and are seen, how many samples, and their share; then the shares of the samples that have
a partner from each pool of sampling.inject, and that sampling.substitute has replaced. `--parquet`
writes the plan itself: position, row, recording_id, source, slice_no; with partners also
partner_pool, partner_row. Reads the index alone, no slices.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from datasets.sampling.config import SamplingConfig
from datasets.sampling.epoch_plan import EpochPlan
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
    for line in pool_lines(plan, config.sampling):
        print(line)
    if arguments.parquet:
        with output_file(Path(arguments.parquet)) as file:
            plan.write_parquet(file)


def pool_lines(plan: EpochPlan, sampling: SamplingConfig) -> Iterator[str]:
    """Yields a line for each pool of partners, and one for substitutes: shares of the samples."""
    num_samples = max(1, len(plan))
    if plan.partner_pool is not None:
        counts = np.bincount(plan.partner_pool + 1, minlength=1 + len(sampling.inject))[1:]
        for spec, count in zip(sampling.inject, counts.tolist(), strict=True):
            share = count / num_samples
            yield f"partners from {spec.source}: {count:,} samples, {share:.1%} (p={spec.p:g})"
    if sampling.substitute.source:
        share = plan.num_substituted / num_samples
        yield (
            f"substituted from {sampling.substitute.source}: {plan.num_substituted:,} samples, "
            f"{share:.1%} (p={sampling.substitute.p:g})"
        )


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
