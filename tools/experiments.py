"""List experiments with their scores, compare the configs of some, or blend their predictions.

    python -m tools.experiments
    python -m tools.experiments --sort accuracy
    python -m tools.experiments --compare exp_003 exp_007    # scores, and the keys that differ
    python -m tools.experiments --blend exp_003 exp_007      # the mean of what they predict
    python -m tools.experiments --blend exp_003 exp_007 --weights 2 1 --out preds/blend
    python -m tools.experiments --seeds exp_003 exp_008 exp_009   # median and spread of scores
    python -m tools.experiments experiment.root=runs         # or s3://bucket/experiments

Looks into configs/ and preds/ of `experiment.root`. A failed experiment says why, and whether
`tools.train --resume` goes on with it; one without scores is still training, or was stopped.
Blended are held-out predictions, of experiments with the same folds; --out gets them as
oof.parquet, which `sources.NAME.targets` takes as soft targets. Each member is also left out, and
its agreement with the others given: one that adds nothing can go. --seeds takes experiments that
differ by their seed alone.
"""

import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from storage.errors import ConfigError
from tools.cli.command import Arguments, Command, run
from tools.cli.config import RemoteSection
from tools.cli.output_files import make_folder
from tools.cli.terminal import fit_columns, shorten, terminal_width
from training.experiments.blend import blend_experiments
from training.experiments.experiment import ExperimentConfig
from training.experiments.listing import (
    check_sort,
    compare_experiments,
    experiment_table,
    list_experiments,
)
from training.experiments.places import local_experiments, local_listing
from training.experiments.seeds import spread_over_seeds
from training.model.metrics import METRICS, TITLES

FIRST = ("experiment", "status", *TITLES, "backbone", "folds", "minutes", "begun")


@dataclass(frozen=True, kw_only=True)
class Sections(RemoteSection):
    """Config sections of this command."""

    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)


COMMAND = Command(
    doc=__doc__,
    sections=Sections,
    flags=(
        ("--sort", {"default": "name", "help": f"name or {', '.join(METRICS)}; best first"}),
        ("--compare", {"nargs": "+", "metavar": "EXP", "help": "the experiments to compare"}),
        ("--seeds", {"nargs": "+", "metavar": "EXP", "help": "experiments of the same config"}),
        ("--blend", {"nargs": "+", "metavar": "EXP", "help": "the experiments to blend"}),
        (
            "--weights",
            {"nargs": "+", "type": float, "default": [], "help": "of --blend; default: all alike"},
        ),
        ("--out", {"metavar": "FOLDER", "help": "folder for the predictions of --blend"}),
    ),
)


def main(config: Sections, arguments: Arguments) -> None:
    """Prints the table that was asked for."""
    if (arguments.weights or arguments.out) and not arguments.blend:
        raise ConfigError("--weights and --out are for --blend EXP EXP")
    place = config.experiment
    if not place.is_remote and not place.read_folder.is_dir():
        raise ConfigError(f"experiment.root={place.root}: there is no such folder")
    root = local_listing(place, config.remote)
    if arguments.blend:
        root = local_experiments(place, config.remote, arguments.blend)
        _blend(root, arguments)
        return
    if arguments.seeds:
        print(spread_over_seeds(root, arguments.seeds).table())
        return
    check_sort(arguments.sort)
    records = list_experiments(root)
    if not records and arguments.compare:
        raise ConfigError(
            f"there is no experiment {arguments.compare[0]} in {place.root}, nor any other"
        )
    if not records:
        print(f"no experiment in {place.root}; python -m tools.train makes one")
        return
    width = terminal_width()
    if arguments.compare:
        table = compare_experiments(records, arguments.compare)
        room = max(8, width // len(table.columns) - 2)
        print(fit_columns(table.columns, _cells(table, room)))
        return
    table = experiment_table(records, arguments.sort)
    shown = table.drop("why")
    print(fit_columns(shown.columns, _cells(shown, width // 4), first=FIRST, width=width))
    for name, reason in table.filter(pl.col("why") != "").select("experiment", "why").iter_rows():
        print(textwrap.fill(f"{name}: {reason}", width, subsequent_indent="    "))


def _cells(table: pl.DataFrame, room: int) -> list[list[str]]:
    """The cells of a table as texts of at most `room` characters."""
    minutes = pl.col("^minutes$").round(1).cast(pl.String)
    scores = pl.col(pl.Float64).exclude("minutes").map_elements("{:.4f}".format, pl.String)
    texts = table.with_columns(minutes, scores).cast(pl.String).fill_null("-")
    return [[shorten(cell, room) for cell in line] for line in texts.iter_rows()]


def _blend(root: Path, arguments: Arguments) -> None:
    """Prints the table of a blend, and keeps its predictions where that is asked for."""
    if arguments.out and Path(arguments.out).is_dir() and any(Path(arguments.out).iterdir()):
        raise ConfigError(f"--out {arguments.out} is not empty: give a new folder")
    blend = blend_experiments(root, arguments.blend, arguments.weights)
    print(blend.table())
    if arguments.out:
        make_folder("--out", Path(arguments.out))
        blend.write(Path(arguments.out))
        print(f"predictions: {arguments.out}")


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
