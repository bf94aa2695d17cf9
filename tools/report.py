"""Describe a store, and an experiment on it, in one HTML file for the browser or the printer.

    python -m tools.report store=data/store
    python -m tools.report store=data/store report.experiment=exp_003 report.out=exp_003.html

Counts, durations, balance of classes, levels, rejects with what to do, spectrograms of each class;
of an experiment its scores, curves, classes, confusion, calibration and worst errors. The file is
at most 5 MB, loads nothing from anywhere, and shows itself in light and dark.
"""

import datetime
import sys
from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import ConfigError
from storage.options import option
from storage.output_files import output_file
from storage.store import open_store
from tools.cli.command import Arguments, Command, run
from tools.cli.config import StoreSection
from tools.cli.output_files import check_output
from training.experiments.experiment import ExperimentConfig
from training.experiments.places import local_experiments
from training.inference.queries.config import QueryConfig
from training.inference.report.experiment_part import Results, experiment_parts
from training.inference.report.page import Part, page
from training.inference.report.store_part import store_parts

SAMPLE_BYTES = 2_500_000  # of sample spectrograms
MAX_BYTES = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """The file, and the experiment that it describes."""

    experiment: str = option("", "an experiment on the store, as in exp_003")
    out: str = option("report.html", "file to write")

    def __post_init__(self) -> None:
        QueryConfig(experiment=self.experiment)  # its name
        if not self.out.endswith(".html"):
            raise ConfigError(f"report.out={self.out} must end in .html")


@dataclass(frozen=True, kw_only=True)
class Sections(StoreSection):
    """Config sections of this command."""

    report: ReportConfig = field(default_factory=ReportConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)


COMMAND = Command(doc=__doc__, sections=Sections)


def main(config: Sections, _: Arguments) -> None:
    """Writes the report, says where."""
    check_output("report.out=", config.report.out)
    with open_store(config.store, config.remote) as store:
        parts: list[Part] = []
        if config.report.experiment:
            name = config.report.experiment
            root = local_experiments(config.experiment, config.remote, [name])
            results = Results.open(store, name, root)
            parts += experiment_parts(store, results)
        parts += store_parts(store, byte_budget=SAMPLE_BYTES)
        today = datetime.date.today().isoformat()
        note = f"{config.store}, store {store.store_id}, recipe {store.recipe.digest()}; {today}"
        text = page(f"Report on {config.store}", note, parts).encode()
    if len(text) > MAX_BYTES:
        raise ConfigError(f"the report would have {len(text):,} bytes, more than {MAX_BYTES:,}")
    with output_file(Path(config.report.out)) as file:
        file.write_bytes(text)
    print(f"{config.report.out}: {len(text) / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
