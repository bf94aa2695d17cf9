"""A config of a short training on learnable slices, for tests of whole trainings."""

from dataclasses import replace
from pathlib import Path

from datasets.augment.mix import MixupConfig
from datasets.augment.pipeline import AugmentConfig
from datasets.augment.place import TimeShiftConfig
from datasets.folds import FoldConfig
from datasets.loading.reader import LoaderConfig
from datasets.sampling.epoch_plan import SamplingConfig
from training.config import TrainingConfig
from training.experiments.experiment import ExperimentConfig
from training.model.learning.optimizers import OptimizerConfig
from training.model.models import ModelConfig
from training.trainer import TrainerConfig

FOLDS = [1, 3]


def short_trainer(**options) -> TrainerConfig:
    """Four epochs in 32 bits on one thread, without a bar."""
    basic = {"epochs": 4, "effective_batch_size": 8, "progress": False}
    return TrainerConfig(**{**basic, "precision": "32-true", "threads": 1, **options})


def config_in(root: Path, **options) -> TrainingConfig:
    """Two of three folds, four short epochs of a very small backbone."""
    basic = TrainingConfig(
        model=ModelConfig(backbone="test_resnet"),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        augment=AugmentConfig(time_shift=TimeShiftConfig(p=0.5), mixup=MixupConfig(p=0.5)),
        sampling=SamplingConfig(slices_per_recording=2),
        folds=FoldConfig(cv="column"),
        train_loader=LoaderConfig(batch_size=4),
        trainer=short_trainer(),
        experiment=ExperimentConfig(root=str(root)),
        train_folds=FOLDS,
    )
    return replace(basic, **options)
