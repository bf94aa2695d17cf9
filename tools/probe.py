"""Fit a linear classifier on embeddings, with the folds of a training, in seconds.

    python -m tools.probe probe.embeddings=embeddings.parquet store=data/store
    python -m tools.probe probe.embeddings=embeddings.parquet folds.cv=column probe.pool=slice

Takes the embeddings that tools.embed has written, and the keys of folds and labels of tools.train.
Makes an experiment: weights/exp_012/fold_0.safetensors, preds/exp_012/ with oof.parquet,
scores.json and classes.csv, which tools.experiments lists and blends. Also prints how often the
nearest neighbour outside its fold has the same label.

    python -m tools.probe probe.from=exp_012 probe.embeddings=new.parquet store=data/new \\
        probe.out=predictions.parquet

With probe.from, probes that were fitted before predict other embeddings of the same model.
"""

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.folds import FoldConfig
from datasets.labels import LabelConfig
from datasets.slice_source import SliceSource
from datasets.sources.mix import open_source
from storage.errors import ConfigError
from storage.options import option
from storage.output_files import output_file
from storage.store import open_store
from tools.cli.command import Arguments, Command, importing, run
from tools.cli.config import StoreSection
from tools.cli.output_files import check_output
from training.config import TrainingConfig
from training.experiments.classes import describe_classes
from training.experiments.experiment import ExperimentConfig
from training.experiments.parts import describe_parts
from training.experiments.places import local_entries
from training.inference.embeddings.birdnet import NAME, NOTICE
from training.inference.embeddings.config import ProbeConfig

if TYPE_CHECKING:
    from training.inference.embeddings.table import EmbeddingTable


@dataclass(frozen=True, kw_only=True)
class Sections(StoreSection):
    """Config sections of this command."""

    probe: ProbeConfig = field(default_factory=ProbeConfig)
    shards: str = option("", "folder of the tar shards; left out, the store itself is read")
    folds: FoldConfig = field(default_factory=FoldConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
    train_folds: list[int] = field(
        default_factory=list,
        metadata={"help": "folds to hold out, each in turn, as in [0,1]; []: all of them"},
    )
    seed: int = option(0, "decides the folds")
    limit: int | None = option(None, "number of recordings, spread over all, for a first look")


COMMAND = Command(doc=__doc__, sections=Sections)


def main(config: Sections, _: Arguments) -> None:
    """Fits and prints scores, or predicts with what was fitted before."""
    if not config.probe.embeddings:
        raise ConfigError(
            "probe.embeddings names no file: write one by python -m tools.embed, and give it"
        )
    with importing("probe"):
        from training.inference.embeddings.table import read_table
    table = read_table(Path(config.probe.embeddings))
    if table.about.model.name == NAME:
        print(NOTICE, flush=True)
    if config.probe.from_:
        _predict(config, table)
    else:
        _fit(config, table)


def _fit(config: Sections, table: "EmbeddingTable") -> None:
    """Fits, prints the scores of each fold and of all together."""
    from training.probe import ProbeRun, probe_folds
    from training.split import split_recordings

    source = open_source(store=config.store, shards=config.shards, remote=config.remote)
    _check_store(config, table, source)
    training = TrainingConfig(
        folds=config.folds,
        labels=config.labels,
        experiment=config.experiment,
        train_folds=config.train_folds,
        seed=config.seed,
        limit=config.limit,
    )
    run_of_probe = ProbeRun(
        probe=config.probe,
        experiment=config.experiment,
        secondary_weight=training.loss.secondary_weight,
        settings=asdict(config),
        rare_below=config.folds.rare_below,
        remote=config.remote,
    )
    report = probe_folds(table, split_recordings(source, training), run_of_probe)
    training_report = report.training
    classes, parts = (
        describe_classes(training_report.classes),
        describe_parts(training_report.parts),
    )
    print("\n\n".join(filter(None, (report.table(), classes, parts))), end="\n\n")
    experiment = report.training.experiment
    print(f"probes: {experiment.describe(experiment.weights)}")
    print(f"predictions: {experiment.describe(experiment.preds)}")


def _predict(config: Sections, table: "EmbeddingTable") -> None:
    """Predicts with probes, writes a table as tools.predict does."""
    from training.inference.embeddings.probe_predictions import find_probes, predict_embeddings

    check_output("probe.out=", config.probe.out)
    entries = local_entries(config.probe.from_, config.experiment, config.remote)
    files = find_probes(entries, config.experiment.read_folder)
    with open_store(config.store, config.remote) as store:
        _check_store(config, table, store)
        frame = predict_embeddings(files, table, store)
    with output_file(Path(config.probe.out)) as file:
        frame.write_parquet(file)
    print(f"{config.probe.out}: {len(frame):,} slices, the mean of {len(files)} probes")


def _check_store(config: Sections, table: "EmbeddingTable", source: SliceSource) -> None:
    if table.about.store_id != source.store_id:
        raise ConfigError(
            f"{config.probe.embeddings} has embeddings of another store than {source.url}: give "
            "the store that was embedded"
        )


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
