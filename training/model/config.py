"""Configs of the models and of weight averaging: next to their code, which needs torch."""

from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import ConfigError
from storage.options import (
    check_at_least,
    check_between,
    check_choice,
    check_positive,
    option,
)

MEAN, GEM, GEOMETRIC = "mean", "gem", "geometric"
POOLS = (MEAN, GEOMETRIC)  # of the slices of a recording
POOLINGS = ("avg", "max", "avgmax", "catavgmax", GEM)
SOFTMAX = "softmax"
OUTPUTS = (SOFTMAX, "sigmoid")
LINEAR, SED = "linear", "sed"
STANDARDISE, BANDS, IMAGENET = "standardise", "bands", "imagenet"
BACKBONE, ALL = "backbone", "all"
NONE, SWA, EMA, BEST = "none", "swa", "ema", "best"
COSINE = "cosine"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Backbone, pooling and output."""

    backbone: str = option("resnet18", "any timm model by name")
    pretrained: bool = option(False, "start from timm's weights, fetched from the model's hub")
    weights_file: str = option(
        "", "weights to begin with, instead of the hub's: a file of timm's or a fold_K.ckpt"
    )
    start: str = option(
        ALL, "weights_file of melbank: all, the head too where labels are equal, or backbone"
    )
    freeze_epochs: int = option(0, "first epochs in which the backbone does not learn")
    head: str = option(LINEAR, "linear, or sed: attention over time, with logits for each frame")
    pooling: str = option(
        "avgmax", "avg, max, avgmax (their mean), catavgmax (side by side) or gem; not with sed"
    )
    frequency_pooling: str = option(MEAN, "head=sed: mean, or gem with a learned power")
    dropout: float = option(0.2, "dropout before the head")
    drop_path: float = option(
        0.0, "stochastic depth: chance to skip the last block; linearly less before"
    )
    channels: int = option(1, "of the backbone's input: 1, or 3 equal ones as pretrained with")
    normaliser: str = option(
        NONE,
        "of the input: none, standardise (of each slice), bands (each band less its mean over "
        "time, then as standardise), imagenet (of 3 channels)",
    )
    views: list[list[int]] = field(
        default_factory=lambda: [[1, 1]],
        metadata={
            "help": "a network for each, on means of so many bands x frames: [[2,2]] is a quarter "
            "of the work; of several, as in [[4,1],[2,2]], the mean prediction counts"
        },
    )
    output: str = option("softmax", "probabilities from logits: softmax or sigmoid")

    def __post_init__(self) -> None:
        check_choice(self, "model", "pooling", POOLINGS)
        check_choice(self, "model", "output", OUTPUTS)
        check_choice(self, "model", "head", (LINEAR, SED))
        check_choice(self, "model", "frequency_pooling", (MEAN, GEM))
        check_choice(self, "model", "normaliser", (NONE, STANDARDISE, BANDS, IMAGENET))
        check_choice(self, "model", "start", (BACKBONE, ALL))
        check_between(self, "model", 0, 1, "dropout", "drop_path", below=True)
        check_at_least(self, "model", 0, "freeze_epochs")
        self._check_combination()
        if not self.views or any(len(view) != 2 or min(view) < 1 for view in self.views):
            raise ConfigError(
                f"model.views={self.views} must be a list of pairs, mel bands and frames, each at "
                "least 1: [[1,1]] for one network on slices as they are"
            )
        if self.weights_file and not Path(self.weights_file).is_file():
            raise ConfigError(f"model.weights_file={self.weights_file} does not exist")

    def _check_combination(self) -> None:
        if self.channels not in (1, 3):
            raise ConfigError(f"model.channels={self.channels} must be 1 or 3")
        if self.normaliser == IMAGENET and self.channels != 3:
            raise ConfigError(
                f"model.normaliser={IMAGENET} is for colours: set model.channels=3, or take "
                f"model.normaliser={STANDARDISE}"
            )
        if self.frequency_pooling == GEM and self.head != SED:
            raise ConfigError(
                f"model.frequency_pooling={GEM} is for model.head={SED}, not {self.head}: take "
                f"model.pooling={GEM}, or the other head"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragingConfig:
    """Settings of weight averaging."""

    kind: str = option(
        NONE,
        "none, swa: mean over epochs, ema: moving mean over steps, best: mean of the best epochs",
    )
    start: float = option(0.75, "swa: share of trainer.epochs after which averaging begins")
    decay: float = option(0.999, "ema: share of the mean that stays at each step")
    norm_batches: int = option(
        50, "swa, best: training batches to take batch norm's statistics from"
    )
    best_k: int = option(3, "best: number of epochs, those of the least validation KL")

    def __post_init__(self) -> None:
        check_choice(self, "averaging", "kind", (NONE, SWA, EMA, BEST))
        check_between(self, "averaging", 0, 1, "start", "decay", below=True)
        check_at_least(self, "averaging", 1, "norm_batches", "best_k")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefitConfig:
    """Settings of a head that is computed when training has ended."""

    kind: str = option(
        NONE,
        "none, cosine: the learned heads give way to cosines with the mean embeddings of the "
        "classes, of all views together, which does justice to classes of few recordings",
    )
    shrinkage: float = option(
        0.1, "share of the covariance within classes that is made equal in all directions"
    )
    scale: float = option(20.0, "logit of a cosine of 1")
    epochs: int = option(
        8, "epochs whose slices it is made of, each read once and counted as drawn"
    )

    def __post_init__(self) -> None:
        check_choice(self, "refit", "kind", (NONE, COSINE))
        check_positive(self, "refit", "shrinkage", "scale")
        check_between(self, "refit", 0, 1, "shrinkage")
        check_at_least(self, "refit", 1, "epochs")
