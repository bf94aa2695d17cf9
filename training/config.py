"""The root config of a training; each section is next to the code that it configures."""

from dataclasses import dataclass, field

from datasets.augment.pipeline import AugmentConfig
from datasets.folds import FoldConfig
from datasets.labels import LabelConfig
from datasets.loading.reader import LoaderConfig
from datasets.sampling.epoch_plan import SamplingConfig
from datasets.sources.background import BackgroundConfig
from datasets.sources.mix import SourceSpec, source_weights
from storage.errors import ConfigError
from storage.options import option
from training.experiments.experiment import ExperimentConfig
from training.model.averaging import AveragingConfig
from training.model.losses import LossConfig
from training.model.models import ModelConfig
from training.model.optimizers import OptimizerConfig
from training.trainer import TrainerConfig, accumulation


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Everything that training depends on; sections and keys as in the root config."""

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    folds: FoldConfig = field(default_factory=FoldConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    train_loader: LoaderConfig = field(default_factory=LoaderConfig)
    val_loader: LoaderConfig = field(default_factory=LoaderConfig)
    sources: dict[str, SourceSpec] = field(
        default_factory=dict,
        metadata={"help": "several sources, each by name: .store or .shards, .weight, ..."},
    )
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    averaging: AveragingConfig = field(default_factory=AveragingConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
    train_folds: list[int] = field(
        default_factory=list,
        metadata={"help": "folds to train, each held out in turn, as in [0,1]; []: all of them"},
    )
    seed: int = option(0, "decides every draw: folds, sampling, augmentation, initial weights")
    limit: int | None = option(None, "number of recordings, spread over all, for a first look")

    def __post_init__(self) -> None:
        if len(set(self.train_folds)) < len(self.train_folds):
            raise ConfigError(f"train_folds={self.train_folds} names a fold twice")
        if self.limit is not None and self.limit < 2:
            raise ConfigError(f"limit={self.limit}: training needs at least 2 recordings")
        if self.trainer.warm_start and self.model.weights_file:
            raise ConfigError("give trainer.warm_start or model.weights_file, not both")
        source_weights(self.sources)
        accumulation(
            self.trainer.effective_batch_size, self.train_loader.batch_size, self.trainer.devices
        )
