"""Losses: functions of logits and soft targets, one value per sample.

A loss is one function and one line in LOSSES. It takes logits [B, C] and targets [B, C] with values
in [0, 1] that need not sum to one, and gives float32 [B]; the mean over the batch is what is
minimised, the single values name the rows at fault when one is not finite.

Losses that judge each class for itself (bce, focal) leave out classes whose target is NaN: of them
it is not known whether they are there. The others know no such thing, because their classes share
one probability.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.errors import ConfigError
from storage.options import check_at_least, check_between, check_choice, option

if TYPE_CHECKING:
    from torch import Tensor  # the config needs none of it, and importing it takes seconds

Loss = Callable[["Tensor", "Tensor"], "Tensor"]

SOFT, MASK = "soft", "mask"
MASKABLE = ("bce", "focal")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Settings of the loss and of the targets."""

    name: str = option("bce", "bce, ce, focal or kl")
    secondary: str = option(
        SOFT, "secondary labels: soft targets, or mask: out of the loss (bce and focal)"
    )
    secondary_weight: float = option(
        0.5, "target value of a secondary label, the primary has 1; with mask in the scores alone"
    )
    label_smoothing: float = option(0.0, "share of each target that is spread over all classes")
    focal_gamma: float = option(2.0, "focal: how fast easy cells lose weight; 0 is bce")

    def __post_init__(self) -> None:
        check_choice(self, "loss", "name", LOSSES)
        check_choice(self, "loss", "secondary", (SOFT, MASK))
        check_between(self, "loss", 0, 1, "secondary_weight")
        check_between(self, "loss", 0, 1, "label_smoothing", below=True)
        check_at_least(self, "loss", 0, "focal_gamma")
        if self.secondary == MASK and self.name not in MASKABLE:
            raise ConfigError(
                f"loss.secondary={MASK} needs a loss that judges each class for itself, but with "
                f"loss.name={self.name} all classes share one probability: take "
                f"loss.name={' or '.join(MASKABLE)}, or loss.secondary={SOFT}"
            )

    @property
    def secondary_target(self) -> float | None:
        """The target of a secondary label; None: not known."""
        return None if self.secondary == MASK else self.secondary_weight


def build_loss(config: LossConfig) -> Loss:
    """The loss of a config: (logits, targets) -> float32 [B]."""
    loss, smoothing = LOSSES[config.name](config), config.label_smoothing

    def smooth_loss(logits: Tensor, targets: Tensor) -> Tensor:
        """A share of the targets is spread evenly over all classes; the sum of a row stays one.

        Source: Szegedy et al., CVPR 2016, section 7.
        """
        return loss(logits, targets * (1 - smoothing) + smoothing / targets.shape[1])

    return smooth_loss if smoothing else loss


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the softmax with the targets brought to sum one."""
    return -(to_distribution(targets) * logits.float().log_softmax(1)).sum(1)


def kl_divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """KL divergence of the targets, brought to sum one, from the softmax.

    Differs from `cross_entropy` by the entropy of the targets: equal gradients, zero when perfect.
    """
    import torch

    wanted = to_distribution(targets)
    negative_entropy: Tensor = torch.special.xlogy(wanted, wanted).sum(1)
    return cross_entropy(logits, targets) + negative_entropy


def focal(gamma: float) -> Loss:
    """Binary cross-entropy times |target - probability| ** gamma, mean over the known classes.

    For targets of 0 and 1 that is Lin et al., ICCV 2017, without its alpha. With gamma 0 it is
    the cross-entropy itself, each class for itself.
    """

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        from torch.nn import functional

        logits, known, targets = logits.float(), ~targets.isnan(), targets.nan_to_num(0.0)
        cells = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        if gamma:
            cells = cells * (targets - logits.sigmoid()).abs().pow(gamma)
        return (cells * known).sum(1) / known.sum(1).clamp_min(1)  # the others get no gradient

    return loss


bce = focal(0.0)


def to_distribution(targets: Tensor) -> Tensor:
    """Rows brought to sum one; a row of zeros stays one."""
    return targets / targets.sum(1, keepdim=True).clamp_min(1e-12)


LOSSES: dict[str, Callable[[LossConfig], Loss]] = {
    "bce": lambda _: bce,
    "ce": lambda _: cross_entropy,
    "focal": lambda config: focal(config.focal_gamma),
    "kl": lambda _: kl_divergence,
}
