"""Train variants of a config with several seeds each, and compare their means and spreads.

    python -m tools.ablate --config configs/esc10_ablation.yaml store=data/esc10
    python -m tools.ablate --config configs/esc10_ablation.yaml store=data/esc10 \\
        ablation.seeds=[0,1,2,3,4] --markdown docs/results.md

A variant is a name and the words that it adds to those of `tools.train`. Each run is an experiment
below `ablation.root`; a run that is there is not made again, so that a stopped ablation goes on.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import ConfigError
from tools.cli.ablation import AblationConfig, AblationRun, plan_runs, section_of, train_runs
from tools.cli.command import Arguments, Command, importing, run
from tools.cli.config import load_config
from tools.cli.output_files import check_output
from tools.cli.progress_bars import bar
from tools.cli.tables import MARKDOWN, write_section
from tools.cli.training_inputs import TrainSections
from training.model.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Sections(TrainSections):
    """Config of `tools.train`, and its variants."""

    ablation: AblationConfig = field(default_factory=AblationConfig)


COMMAND = Command(doc=__doc__, sections=Sections, flags=(MARKDOWN,))


def main(config: Sections, arguments: Arguments) -> None:
    """Trains all runs that are not there, and prints the table."""
    training = [word for word in arguments.overrides if not word.startswith("ablation.")]
    words = ["--config", arguments.config, *training]
    check_output("--markdown", arguments.markdown)
    runs = plan_runs(config.ablation, words)
    with importing("checking the variants"):
        from training.model.models import check_backbone
    for one in runs:  # a mistake in the last variant would come to light after hours
        check_run(one, arguments.config, check_backbone)
    train_runs(runs, config.ablation.jobs, bar)
    section = section_of(config.ablation, runs)
    print(section.text())
    if arguments.markdown:
        command = ["--config", arguments.config, *arguments.overrides]
        write_section(Path(arguments.markdown), section, command, module="tools.ablate")


def check_run(one: AblationRun, config: str, check_model: Callable[[ModelConfig], None]) -> None:
    """Raises ConfigError, naming the variant, where its words are none of a training."""
    try:  # the first two words are --config and its file
        check_model(load_config(TrainSections, config, one.words[2:]).model)
    except ConfigError as error:
        raise ConfigError(f"ablation.variants: {one.variant}: {error}") from error


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
