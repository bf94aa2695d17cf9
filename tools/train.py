"""Train a classifier on folds of a store or of its tar shards.

    python -m tools.train store=data/store
    python -m tools.train shards=data/shards model.backbone=resnet50 train_loader.batch_size=4
    python -m tools.train --config configs/birdclef2025.yaml train_folds=[0,1]
    python -m tools.train store=data/store limit=100 trainer.epochs=2

Makes an experiment: weights/exp_001/fold_0.ckpt, preds/exp_001/ with oof.parquet,
embeddings.parquet and scores.json, and configs/exp_001.yaml, which does the same again.
"""

import sys
from dataclasses import dataclass

from datasets.shard_index import open_shards
from storage.options import option
from storage.store import open_store
from tools.command import Arguments, Command, run
from tools.config import StoreSection
from training.cross_validation import TrainingConfig, train_folds


@dataclass(frozen=True, kw_only=True)
class Sections(TrainingConfig, StoreSection):
    """What this command uses."""

    shards: str = option("", "folder of the tar shards; left out, the store itself is read")


COMMAND = Command(doc=__doc__, sections=Sections)


def main(config: Sections, _: Arguments) -> None:
    """Trains, prints the scores of each fold and of all together."""
    source = open_shards(config.shards) if config.shards else open_store(config.store)
    report = train_folds(source, config, say=print)
    print(report.table())
    experiment = report.experiment
    print(f"weights: {experiment.weights}\npredictions: {experiment.preds}")
    print(f"config: {experiment.config_file}")


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
