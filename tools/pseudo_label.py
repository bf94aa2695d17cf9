"""Pseudo-label a pool: teachers over a store of soundscapes -> soft targets of the next round.

    python -m tools.pseudo_label predict.from=[exp_001] predict.input=data/pool \\
        predict.out=preds/round_1 "pseudo.transform=[{threshold_max: 0.1}, {cap_sum: 0.75}]"
    python -m tools.pseudo_label predict.from=[exp_002,exp_003] predict.input=data/pool \\
        predict.out=preds/round_2 pseudo.previous=preds/round_1/targets.parquet \\
        "pseudo.transform=[{threshold_max: 0.1}, {power: 1.54}]"

Models, blending and post-processing are those of tools.predict; the pool is a store. A teacher does
not label a recording that it has learned from, by the config in its checkpoint. Writes
targets.parquet for sources.NAME.targets=, a table of the pool's recordings with sampling weights,
and pseudo.json; prints mass and counts per class, the agreement with the round before, and where
another round would change little. Run again, with other steps, it takes seconds.
"""

import sys
from dataclasses import dataclass, field

from tools.cli.command import Arguments, Command, importing, run
from tools.cli.config import RemoteSection
from tools.cli.progress_bars import bar
from tools.cli.tables import Table
from training.experiments.experiment import ExperimentConfig
from training.experiments.places import local_entries
from training.inference.model_files import find_models
from training.inference.pseudo.config import RoundConfig
from training.inference.reading.inputs import list_inputs


@dataclass(frozen=True, kw_only=True)
class Sections(RemoteSection, RoundConfig):
    """Config sections of this command."""

    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)


COMMAND = Command(doc=__doc__, sections=Sections)


def main(config: Sections, _: Arguments) -> None:
    """Makes the targets, prints the report."""
    config.predict.check_given()
    entries = local_entries(config.predict.from_, config.experiment, config.remote)
    models = find_models(entries, config.experiment.read_folder)
    inputs = list_inputs(config.predict.input, config.remote, limit=config.predict.limit)
    with importing("pseudo-labels"):
        from training.inference.pseudo.make import make_round
    outcome = make_round(config, models, inputs, remote=config.remote, progress=bar)
    header, *rows = outcome.report.table()
    print(Table(columns=header, rows=tuple(rows)).text())
    print("\n".join(outcome.report.lines()))
    print(f"targets: {outcome.targets}")
    if outcome.stop:
        print("stop here: the top classes and the mass are nearly those of the round before")


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
