"""Train a classifier on folds of a store, of its tar shards, or of several of them.

    python -m tools.train store=data/store
    python -m tools.train shards=data/shards model.backbone=resnet50 train_loader.batch_size=4
    python -m tools.train --config configs/birdclef2025.yaml train_folds=[0,1]
    python -m tools.train store=data/store limit=100 trainer.epochs=2
    python -m tools.train sources.focal.store=data/store \\
        sources.pool.shards=data/pool sources.pool.weight=0.3 sources.pool.train_only=true
    python -m tools.train --resume exp_007
    python -m tools.train background.store=data/noise augment.background.p=0.3
    python -m tools.train store=data/store teacher.embeddings=embeddings.parquet

Killed, stopped or failed, `--resume` goes on at the very sample, with the experiment's own config;
where its data have moved, store=, shards= and the like name the new place, and
trainer.folds_at_once=1 takes less memory. `trainer.warm_start`
begins with the weights of an earlier experiment, `model.weights_file` with those of a file. Several
sources are learned from together, each with its share of the samples; then store= is not
read. sources.NAME.targets takes soft targets, such as an oof.parquet; teacher.embeddings takes
embeddings of tools.embed, to which the model's own are drawn.

Makes an experiment: weights/exp_001/fold_0.ckpt, preds/exp_001/ with oof.parquet,
embeddings.parquet, scores.json, classes.csv, the scores of each class, of which the ten best and
the ten worst are printed, and parts.csv, those of rare classes, taxa and sites; and
configs/exp_001.yaml, which does the same again.
"""

import re
import sys
from collections.abc import Sequence
from typing import Any

from datasets.sampling.user_functions import is_user_function
from storage.errors import ConfigError
from tools.cli.command import Arguments, Command, importing, run
from tools.cli.config import load_config
from tools.cli.training_inputs import TrainSections, open_background, open_training
from training.experiments.classes import describe_classes
from training.experiments.experiment import find_settings
from training.experiments.parts import describe_parts
from training.experiments.settings import read_settings
from training.runtime.ranks import is_first_rank

PLACES = re.compile(  # of what a resumed training reads, which may have moved; and its processes
    r"experiment\.(root|cache)|((sources\.\w+|background)\.)?(store|shards)|model\.weights_file|remote\..+"
    r"|teacher\.(embeddings|sources\.\w+)|trainer\.folds_at_once"
)
FUNCTIONS = ("sampling.slice_choice", "sampling.balance")  # may be module:function

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
    tables = (report.table(), describe_classes(report.classes), describe_parts(report.parts))
    print("\n\n".join(filter(None, tables)), end="\n\n")
    experiment = report.experiment
    print(f"weights: {experiment.describe(experiment.weights)}")
    print(f"predictions: {experiment.describe(experiment.preds)}")
    print(f"config: {experiment.describe(experiment.config_file)}")


def _config_of(name: str, config: TrainSections, arguments: Arguments) -> TrainSections:
    """The config that an experiment was begun with; words may say where its data are now."""
    words = arguments.overrides
    for word in words:
        key = word.partition("=")[0]
        if key not in FUNCTIONS and not PLACES.fullmatch(key):
            raise ConfigError(f"--resume {name} goes on with its own config: leave out {word}")
    file = find_settings(config.experiment, name, config.remote)
    _check_functions(name, read_settings(file)[1].get("sampling"), words)
    places = [f"experiment.root={config.experiment.root}"]
    if config.experiment.cache is not None:
        places.append(f"experiment.cache={config.experiment.cache}")
    return load_config(TrainSections, str(file), [*places, *words])


def _check_functions(name: str, sampling: Any, words: Sequence[str]) -> None:
    """Raises ConfigError unless the words name the functions of a config, and only those.

    The config may be another's, and loading it would already run their modules.
    """
    values = sampling if isinstance(sampling, dict) else {}
    named = [f"{key}={values.get(key.partition('.')[2])}" for key in FUNCTIONS]
    functions = [word for word in named if is_user_function(word)]
    for word in words:
        if word.partition("=")[0] in FUNCTIONS and word not in functions:
            raise ConfigError(f"--resume {name} goes on with its own config: leave out {word}")
    for word in functions:
        if word not in words:
            raise ConfigError(
                f"--resume {name}: its config names a function, which is code: if you trust it, "
                f"add {word}"
            )


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
