"""Losses: functions of logits and soft targets, one value per sample.

A loss is one function and one line in LOSSES. It takes logits [B, C] and targets [B, C] with values
in [0, 1] that need not sum to one, and gives float32 [B]; the mean over the batch is what is
minimised, the single values name the rows at fault when one is not finite.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from storage.errors import ConfigError
from storage.options import option

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Which loss, and what the targets hold."""

    name: str = option("bce", "bce, ce, focal or kl")
    secondary_weight: float = option(0.5, "target value of a secondary label; the primary has 1")
    label_smoothing: float = option(0.0, "share of each target that is spread over all classes")
    focal_gamma: float = option(2.0, "focal: how fast easy cells lose weight; 0 is bce")

    def __post_init__(self) -> None:
        if self.name not in LOSSES:
            raise ConfigError(f"loss.name={self.name} is none of {', '.join(LOSSES)}")
        if not 0 <= self.secondary_weight <= 1:
            raise ConfigError(
                f"loss.secondary_weight must lie in 0 to 1, not {self.secondary_weight}"
            )
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"loss.label_smoothing must lie in 0 to 1, not {self.label_smoothing}"
            )
        if self.focal_gamma < 0:
            raise ConfigError(f"loss.focal_gamma must not be negative, not {self.focal_gamma}")


def build_loss(config: LossConfig) -> Loss:
    """The loss of a config: (logits, targets) -> float32 [B]."""
    loss = LOSSES[config.name](config)
    return smoothed(loss, config.label_smoothing) if config.label_smoothing else loss


def smoothed(loss: Loss, smoothing: float) -> Loss:
    """A loss of targets of which a share is spread evenly over all classes.

    Source: Szegedy et al., CVPR 2016, section 7; the sum of a row that is one stays one.
    """

    def smooth_loss(logits: Tensor, targets: Tensor) -> Tensor:
        spread = smoothing / targets.shape[1]
        return loss(logits, targets * (1 - smoothing) + spread)

    return smooth_loss


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy, each class for itself, mean over classes."""
    cells = functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    return cells.mean(1)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the softmax with the targets brought to sum one."""
    return -(to_distribution(targets) * logits.float().log_softmax(1)).sum(1)


def kl_divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """KL divergence of the targets, brought to sum one, from the softmax.

    Differs from `cross_entropy` by the entropy of the targets: equal gradients, zero when perfect.
    """
    wanted = to_distribution(targets)
    negative_entropy: Tensor = torch.special.xlogy(wanted, wanted).sum(1)
    return cross_entropy(logits, targets) + negative_entropy


def focal(gamma: float) -> Loss:
    """Binary focal loss for soft targets: bce times |target - probability| ** gamma.

    For targets of 0 and 1 that is Lin et al., ICCV 2017, without its alpha.
    """

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        logits = logits.float()
        cells = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        distances = (targets - logits.sigmoid()).abs()
        return (cells * distances.pow(gamma)).mean(1)

    return loss


def to_distribution(targets: Tensor) -> Tensor:
    """Rows brought to sum one; a row of zeros stays one."""
    return targets / targets.sum(1, keepdim=True).clamp_min(1e-12)


LOSSES: dict[str, Callable[[LossConfig], Loss]] = {
    "bce": lambda _: bce,
    "ce": lambda _: cross_entropy,
    "focal": lambda config: focal(config.focal_gamma),
    "kl": lambda _: kl_divergence,
}
