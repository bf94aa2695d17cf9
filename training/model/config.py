"""Configs of the models and of weight averaging: next to their code, which needs torch."""

from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import ConfigError
from storage.options import check_at_least, check_between, check_choice, option

POOLINGS = ("avg", "max", "avgmax", "catavgmax")
OUTPUTS = ("softmax", "sigmoid")
NONE, SWA, EMA = "none", "swa", "ema"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Backbone, pooling and output."""

    backbone: str = option("resnet18", "any timm model by name")
    pretrained: bool = option(False, "start from timm's weights, fetched from the model's hub")
    weights_file: str = option(
        "", "weights to begin with, instead of the hub's: a file of timm's or a fold_K.ckpt"
    )
    pooling: str = option("avgmax", "avg, max, avgmax (their mean) or catavgmax (side by side)")
    dropout: float = option(0.2, "dropout before the head")
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
        check_between(self, "model", 0, 1, "dropout", below=True)
        if not self.views or any(len(view) != 2 or min(view) < 1 for view in self.views):
            raise ConfigError(
                f"model.views={self.views} must be a list of pairs, mel bands and frames, each at "
                "least 1: [[1,1]] for one network on slices as they are"
            )
        if self.weights_file and not Path(self.weights_file).is_file():
            raise ConfigError(f"model.weights_file={self.weights_file} does not exist")


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragingConfig:
    """Settings of weight averaging."""

    kind: str = option(NONE, "none, swa: mean over epochs, or ema: moving mean over steps")
    start: float = option(0.75, "swa: share of trainer.epochs after which averaging begins")
    decay: float = option(0.999, "ema: share of the mean that stays at each step")
    norm_batches: int = option(50, "swa: training batches to take batch norm's statistics from")

    def __post_init__(self) -> None:
        check_choice(self, "averaging", "kind", (NONE, SWA, EMA))
        check_between(self, "averaging", 0, 1, "start", "decay", below=True)
        check_at_least(self, "averaging", 1, "norm_batches")
