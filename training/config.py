"""The root config of a training; most sections are next to the code that they configure.

Nothing here imports torch, which takes seconds: `--help` needs the configs alone.
"""

import re
from dataclasses import dataclass, field

from datasets.augment.pipeline import AugmentConfig
from datasets.chunks import ChunkConfig
from datasets.folds import FoldConfig
from datasets.labels import LabelConfig
from datasets.loading.config import LoaderConfig, ValLoaderConfig
from datasets.sampling.config import SamplingConfig
from datasets.sources.background import BackgroundConfig
from datasets.sources.mix import SourceSpec, source_weights
from storage.errors import ConfigError
from storage.options import check_at_least, check_choice, option
from training.experiments.experiment import ExperimentConfig
from training.model.config import BEST as BEST_EPOCHS
from training.model.config import (
    COSINE,
    LINEAR,
    MEAN,
    NONE,
    POOLS,
    SED,
    SOFTMAX,
    AveragingConfig,
    ModelConfig,
    RefitConfig,
)
from training.model.learning.distillation_config import TeacherConfig
from training.model.learning.losses import SOFT_AUC, LossConfig
from training.model.learning.optimizers import OptimizerConfig
from training.runtime import auto

BEST, LAST = "best", "last"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerConfig:
    """Settings of the trainer: length, steps, devices."""

    epochs: int = option(20, "largest number of epochs")
    effective_batch_size: int = option(16, "samples per optimizer step, over batches and ranks")
    pool: str = option(
        MEAN,
        "of the slices of a held-out recording: mean of their probabilities, or geometric, which "
        "with model.output=softmax is scaled to a sum of one",
    )
    pool_scale_db: float = option(
        0.0, "fall in level that divides a slice's weight in that mean by e, dB; 0: all alike"
    )
    validate_every: int = option(1, "epochs from one validation to the next; the last has one, too")
    patience: int = option(4, "validations without a better KL before stopping; 0: never")
    keep: str = option(BEST, "weights that are judged and kept: best by validation KL, or last")
    gradient_clip: float = option(0.0, "largest norm of the gradient; 0: any")
    accelerator: str = option("auto", "auto, cpu or gpu")
    devices: int = option(1, "GPUs, or processes on the CPU, that train together; one rank each")
    num_nodes: int = option(
        1, "machines with as many devices each; torchrun or srun starts them and sets both numbers"
    )
    timeout_s: float = option(
        1800.0, "a rank that waits longer for another one ends with a message, s"
    )
    strategy: str = option("auto", "auto (ddp for several devices), ddp, ...")
    precision: str = option("auto", "auto, 32-true, bf16-mixed or 16-mixed")
    compile: str = option("auto", "torch.compile of the backbone: auto, true or false")
    logger: str = option("auto", "auto, csv or wandb (offline without a key)")
    threads: int = option(0, "of torch on the CPU; 0: as many as this process may use")
    folds_at_once: int = option(
        1, "folds trained side by side on the CPU, each by a process with its share of the threads"
    )
    checkpoint_steps: int = option(
        500, "optimizer steps between checkpoints to resume from; 0: at the ends of epochs only"
    )
    warm_start: str = option(
        "", "experiment whose weights the folds begin with, each with its own, as in exp_003"
    )
    detect_anomaly: bool = option(
        False, "find the operation that produced a NaN; several times slower"
    )
    progress: bool = option(True, "show a bar")

    def __post_init__(self) -> None:
        check_choice(self, "trainer", "accelerator", auto.ACCELERATORS)
        check_choice(self, "trainer", "strategy", auto.STRATEGIES)
        check_choice(self, "trainer", "precision", auto.PRECISIONS)
        check_choice(self, "trainer", "logger", auto.LOGGERS)
        check_choice(self, "trainer", "keep", (BEST, LAST))
        check_choice(self, "trainer", "pool", POOLS)
        if self.compile.lower() not in auto.COMPILES:
            raise ConfigError(
                f"trainer.compile={self.compile} is none of {', '.join(auto.COMPILES)}"
            )
        if self.warm_start and not re.fullmatch(r"exp_\d+", self.warm_start):
            raise ConfigError(
                f"trainer.warm_start={self.warm_start} is no experiment's name, such as exp_003; "
                "a file is given as model.weights_file="
            )
        whole = (
            "epochs",
            "effective_batch_size",
            "devices",
            "num_nodes",
            "timeout_s",
            "validate_every",
            "folds_at_once",
        )
        check_at_least(self, "trainer", 1, *whole)
        not_negative = (
            "patience",
            "gradient_clip",
            "threads",
            "checkpoint_steps",
            "pool_scale_db",
        )
        check_at_least(self, "trainer", 0, *not_negative)

    @property
    def num_ranks(self) -> int:
        """Processes that train together, on all nodes."""
        return self.devices * self.num_nodes


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
    val_loader: ValLoaderConfig = field(default_factory=ValLoaderConfig)
    sources: dict[str, SourceSpec] = field(
        default_factory=dict,
        metadata={"help": "several sources, each by name: .store or .shards, .weight, ..."},
    )
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    chunk: ChunkConfig = field(default_factory=ChunkConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    averaging: AveragingConfig = field(default_factory=AveragingConfig)
    refit: RefitConfig = field(default_factory=RefitConfig)
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
        self._check_learning()
        source_weights(self.sources)
        self.sampling.check_sources(self.sources)
        self._check_teacher()
        accumulation(
            self.trainer.effective_batch_size, self.train_loader.batch_size, self.trainer.num_ranks
        )

    def _check_learning(self) -> None:
        """Raises ConfigError where model, loss and averaging contradict each other."""
        if self.averaging.kind == BEST_EPOCHS and self.trainer.keep == LAST:
            raise ConfigError(
                f"averaging.kind={BEST_EPOCHS} keeps the mean of the best epochs, trainer.keep="
                f"{LAST} the last one: set one of them otherwise"
            )
        if self.refit.kind == COSINE and (self.model.head, self.model.output) != (LINEAR, SOFTMAX):
            raise ConfigError(
                f"refit.kind={COSINE} gives one softmax over all classes, of a whole slice, and "
                f"model has head={self.model.head}, output={self.model.output}: set model.head="
                f"{LINEAR} and model.output={SOFTMAX}, or refit.kind={NONE}"
            )
        if self.loss.frame_weight and self.model.head != SED:
            raise ConfigError(
                f"loss.frame_weight={self.loss.frame_weight:g} needs frames, which model.head="
                f"{self.model.head} has not: set model.head={SED}, or leave the weight out"
            )
        if self.loss.name == SOFT_AUC and self.train_loader.batch_size < 2:
            raise ConfigError(
                f"loss.name={SOFT_AUC} compares samples of a batch, and train_loader.batch_size="
                f"{self.train_loader.batch_size} has no two: give at least 2, better 32 or more"
            )

    def _check_teacher(self) -> None:
        """Raises ConfigError on a teacher of other sources, or that leaves no epoch for labels."""
        teacher = self.teacher
        if strange := [name for name in teacher.sources if name not in self.sources]:
            raise ConfigError(
                f"teacher.sources.{strange[0]}: there is no such source; sources has "
                f"{', '.join(self.sources) or 'none, so give teacher.embeddings='}"
            )
        if teacher.epochs >= self.trainer.epochs:
            raise ConfigError(
                f"teacher.epochs={teacher.epochs} of trainer.epochs={self.trainer.epochs} leaves "
                "no epoch to learn the labels in: set fewer, or more of those"
            )


def accumulation(effective_batch_size: int, batch_size: int, num_ranks: int = 1) -> int:
    """Batches per optimizer step; raises ConfigError where it is no whole number."""
    together = batch_size * num_ranks
    if effective_batch_size % together:
        fitting = [n for n in range(1, effective_batch_size + 1) if effective_batch_size % n == 0]
        sizes = [n // num_ranks for n in fitting if n % num_ranks == 0]
        raise ConfigError(
            f"trainer.effective_batch_size={effective_batch_size} is no multiple of "
            f"train_loader.batch_size={batch_size} x {num_ranks} ranks; batch sizes that fit: "
            f"{', '.join(map(str, sizes)) or 'none'}"
        )
    return effective_batch_size // together
