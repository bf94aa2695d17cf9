"""Train a classifier on folds of a store, of its tar shards, or of several of them.

    python -m tools.train store=data/store
    python -m tools.train shards=data/shards model.backbone=resnet50 train_loader.batch_size=4
    python -m tools.train --config configs/birdclef2025.yaml train_folds=[0,1]
    python -m tools.train store=data/store limit=100 trainer.epochs=2
    python -m tools.train sources.focal.store=data/store \\
        sources.pool.shards=data/pool sources.pool.weight=0.3 sources.pool.train_only=true
    python -m tools.train --resume exp_007
    python -m tools.train background.store=data/noise augment.background.p=0.3

Killed or stopped, `--resume` goes on at the very sample, with the experiment's own config. Several
sources are learned from together, each with its share of the samples; then store= is not
read. sources.NAME.targets takes soft targets, such as an oof.parquet.

Makes an experiment: weights/exp_001/fold_0.ckpt, preds/exp_001/ with oof.parquet,
embeddings.parquet, scores.json and classes.csv, the scores of each class, of which the ten best and
the ten worst are printed; and configs/exp_001.yaml, which does the same again.
"""

import sys

from storage.errors import ConfigError
from tools.cli.command import Arguments, Command, importing, run
from tools.cli.config import load_config
from tools.cli.training_inputs import TrainSections, open_background, open_training
from training.experiments.classes import describe_classes
from training.experiments.experiment import find_experiment
from training.runtime.ranks import is_first_rank

COMMAND = Command(
    doc=__doc__,
    sections=TrainSections,
    flags=(("--resume", {"metavar": "EXP", "default": "", "help": "experiment to go on with"}),),
)


def main(config: TrainSections, arguments: Arguments) -> None:
    """Trains, prints the scores of each fold and of all together."""
    if arguments.resume:
        config = _config_of(arguments.resume, config, arguments)
    with importing("training starts"):
        from training.cross_validation import train_folds
    report = train_folds(
        open_training(config),
        config,
        background=open_background(config),
        resume=arguments.resume,
    )
    if not is_first_rank():
        return
    print(f"{report.table()}\n\n{describe_classes(report.classes)}\n")
    experiment = report.experiment
    print(f"weights: {experiment.weights}\npredictions: {experiment.preds}")
    print(f"config: {experiment.config_file}")


def _config_of(name: str, config: TrainSections, arguments: Arguments) -> TrainSections:
    """The config that an experiment was begun with; `experiment.root` says where it is."""
    others = [word for word in arguments.overrides if not word.startswith("experiment.root=")]
    if others:
        raise ConfigError(f"--resume {name} goes on with its own config: leave out {others[0]}")
    root = config.experiment.root
    file = find_experiment(config.experiment, name).config_file
    return load_config(TrainSections, str(file), [f"experiment.root={root}"])


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
