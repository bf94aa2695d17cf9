"""List experiments with their scores, or hold the configs of some against each other.

    python -m tools.experiments
    python -m tools.experiments --sort accuracy
    python -m tools.experiments --compare exp_003 exp_007    # scores, and the keys that differ
    python -m tools.experiments experiment.root=runs

Looks into configs/ and preds/ of `experiment.root`. A failed experiment says why; one without
scores is still training, or was stopped.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from storage.errors import ConfigError
from tools.command import Arguments, Command, run
from training.experiment import ExperimentConfig
from training.experiment_table import (
    check_sort,
    compare_experiments,
    experiment_table,
    list_experiments,
)


@dataclass(frozen=True, kw_only=True)
class Sections:
    """What this command uses."""

    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)


COMMAND = Command(
    doc=__doc__,
    sections=Sections,
    flags=(
        ("--sort", {"default": "name", "help": "name, kl, roc_auc, cmap or accuracy; best first"}),
        ("--compare", {"nargs": "+", "metavar": "EXP", "help": "the experiments to compare"}),
    ),
)


def main(config: Sections, arguments: Arguments) -> None:
    """Prints the table that was asked for."""
    root = config.experiment.root
    if not Path(root).is_dir():
        raise ConfigError(f"experiment.root={root}: there is no such folder")
    check_sort(arguments.sort)
    records = list_experiments(root)
    if not records and arguments.compare:
        raise ConfigError(f"there is no experiment {arguments.compare[0]} in {root}, nor any other")
    if not records:
        print(f"no experiment in {root}; python -m tools.train makes one")
        return
    if arguments.compare:
        table = compare_experiments(records, arguments.compare)
    else:
        table = experiment_table(records, arguments.sort)
    with pl.Config(
        tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=100, float_precision=4
    ) as look:
        look.set_tbl_hide_column_data_types().set_tbl_hide_dataframe_shape()
        look.set_tbl_formatting("NOTHING")
        print(table)


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
