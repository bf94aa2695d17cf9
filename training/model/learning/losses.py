"""Losses: functions of logits and soft targets, one value per sample.

A loss is one function and one line in LOSSES. It takes logits [B, C] and targets [B, C] with values
in [0, 1] that need not sum to one, and gives float32 [B]; the mean over the batch is what is
minimised, the single values name the rows at fault when one is not finite.

Losses that judge each class for itself (MASKABLE) leave out classes whose target is NaN: of them
it is not known whether they are there. The others know no such thing, because their classes share
one probability.

`soft_auc` compares the samples of a batch with each other: each gets its share of the pairs.

Shapes: B samples, C classes.
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
NOT_NEGATIVE = (
    "focal_gamma",
    "asymmetric_gamma_positive",
    "asymmetric_gamma_negative",
    "bce_weight",
    "negative_penalty",
    "clip_weight",
    "frame_weight",
    "group_weight",
)
MASKABLE = ("bce", "focal", "asymmetric", "soft_auc")
CE, BCE, SOFT_AUC = "ce", "bce", "soft_auc"


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Settings of the loss and of the targets."""

    name: str = option("bce", "bce, ce, focal, kl, asymmetric or soft_auc")
    secondary: str = option(
        SOFT, "secondary labels: soft targets, or mask: out of the loss (not with ce and kl)"
    )
    secondary_weight: float = option(
        0.5, "target value of a secondary label, the primary has 1; with mask in the scores alone"
    )
    label_smoothing: float = option(0.0, "share of each target that is spread over all classes")
    positive_smoothing: float = option(0.0, "share by which targets of 1 are lowered towards 0")
    negative_smoothing: float = option(0.0, "share by which targets of 0 are raised towards 1")
    focal_gamma: float = option(2.0, "focal: how fast easy cells lose weight; 0 is bce")
    asymmetric_gamma_positive: float = option(0.0, "asymmetric: focus of the present classes")
    asymmetric_gamma_negative: float = option(4.0, "asymmetric: focus of the absent classes")
    asymmetric_margin: float = option(
        0.05, "asymmetric: absent classes of at most this probability cost nothing"
    )
    normalise_targets: bool = option(
        True, "ce: targets brought to sum one; false: a sample of two labels counts twice"
    )
    bce_weight: float = option(0.0, "soft_auc: so much of bce is added; 0.25 in BirdCLEF 2026")
    negative_penalty: float = option(
        0.0, "this times the mean square of positive logits of absent classes is added"
    )
    clip_weight: float = option(1.0, "weight of the loss of a slice's own logits")
    frame_weight: float = option(
        0.0, "model.head=sed: weight of the loss of the largest logit over the frames"
    )
    group_weight: float = option(0.2, "labels.groups: weight of the mean loss of their heads")

    def __post_init__(self) -> None:
        check_choice(self, "loss", "name", LOSSES)
        check_choice(self, "loss", "secondary", (SOFT, MASK))
        check_between(self, "loss", 0, 1, "secondary_weight")
        check_between(self, "loss", 0, 1, "label_smoothing", below=True)
        check_between(self, "loss", 0, 1, "asymmetric_margin", below=True)
        check_at_least(self, "loss", 0, *NOT_NEGATIVE)
        self._check_smoothing()
        self._check_combination()
        if self.secondary == MASK and self.name not in MASKABLE:
            raise ConfigError(
                f"loss.secondary={MASK} needs a loss that judges each class for itself, but with "
                f"loss.name={self.name} all classes share one probability: take "
                f"loss.name={' or '.join(MASKABLE)}, or loss.secondary={SOFT}"
            )

    def _check_smoothing(self) -> None:
        check_between(self, "loss", 0, 1, "positive_smoothing", "negative_smoothing", below=True)
        positive, negative = self.positive_smoothing, self.negative_smoothing
        if self.label_smoothing and (positive or negative):
            raise ConfigError(
                f"loss.label_smoothing={self.label_smoothing:g} smooths positive and negative "
                f"targets together, loss.positive_smoothing={positive:g} and "
                f"loss.negative_smoothing={negative:g} apart: give the first or the others"
            )
        if positive + negative >= 1:
            raise ConfigError(
                f"loss.positive_smoothing={positive:g} and loss.negative_smoothing={negative:g} "
                "leave a present class no larger target than an absent one: their sum must be "
                "below 1"
            )

    def _check_combination(self) -> None:
        if not self.normalise_targets and self.name != CE:
            raise ConfigError(
                f"loss.normalise_targets=false is for loss.name={CE}, not {self.name}: leave it out"
            )
        if self.bce_weight and self.name != SOFT_AUC:
            raise ConfigError(
                f"loss.bce_weight={self.bce_weight:g} is for loss.name={SOFT_AUC}, not "
                f"{self.name}: leave it out"
            )
        if not self.clip_weight + self.frame_weight:
            raise ConfigError(
                "loss.clip_weight=0 and loss.frame_weight=0 leave nothing to learn: give one of "
                "them a weight"
            )

    @property
    def secondary_target(self) -> float | None:
        """The target of a secondary label; None: not known."""
        return None if self.secondary == MASK else self.secondary_weight


def build_loss(config: LossConfig) -> Loss:
    """The loss of a config: (logits, targets) -> float32 [B]."""
    plain = LOSSES[config.name](config)
    if not (config.bce_weight or config.negative_penalty or smooths(config)):
        return plain

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        smoothed = smooth_targets(config, targets)
        losses = plain(logits, smoothed)
        if config.bce_weight:
            losses = losses + config.bce_weight * bce(logits, smoothed)
        if config.negative_penalty:
            losses = losses + config.negative_penalty * penalise_negatives(logits, targets)
        return losses

    return loss


def smooths(config: LossConfig) -> bool:
    """True where a config smooths targets in any way."""
    return bool(config.label_smoothing or config.positive_smoothing or config.negative_smoothing)


def smooth_targets(config: LossConfig, targets: Tensor) -> Tensor:
    """Targets [B, C] after label smoothing; NaN stays NaN.

    With `label_smoothing` s, a share of the targets is spread evenly over all classes and the sum
    of a row stays one: t (1 - s) + s / C (Szegedy et al., CVPR 2016, section 7). With
    `positive_smoothing` p and `negative_smoothing` n each class is smoothed by itself:
    t (1 - p) + (1 - t) n, so that 1 becomes 1 - p and 0 becomes n (as in BriteKit).
    """
    share = config.label_smoothing
    if share:
        return targets * (1 - share) + share / targets.shape[1]
    positive, negative = config.positive_smoothing, config.negative_smoothing
    if positive or negative:
        return targets * (1 - positive) + (1 - targets) * negative
    return targets


def penalise_negatives(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the known classes of (1 - t) max(0, z)^2, float32 [B].

    Keeps the logits z of absent classes from being confidently positive, which a softmax by itself
    does not mind as long as another class has more (the penalty on confident negatives of BirdCLEF
    2025, 10th place, and 2026, 8th; their formulas are not published).
    """
    logits, known, targets = _known_cells(logits, targets)
    cells = (1 - targets) * logits.clamp_min(0).square()
    return _mean_of_known(cells, known)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the softmax with the targets brought to sum one."""
    return unnormalised_cross_entropy(logits, to_distribution(targets))


def unnormalised_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the softmax with the targets as they are: -sum of t log p, float32 [B].

    A sample with two labels of 1 weighs twice as much as one with a single label (BirdCLEF 2025,
    1st place).
    """
    return -(targets * logits.float().log_softmax(1)).sum(1)


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

        logits, known, targets = _known_cells(logits, targets)
        cells = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        if gamma:
            cells = cells * (targets - logits.sigmoid()).abs().pow(gamma)
        return _mean_of_known(cells, known)

    return loss


bce = focal(0.0)


def asymmetric(gamma_positive: float, gamma_negative: float, margin: float) -> Loss:
    """Asymmetric loss, mean over the known classes (Ridnik et al., ICCV 2021, equation 7).

    Of a target t and a probability p: -t (1 - p)^g+ log p - (1 - t) q^g- log(1 - q) with
    q = max(p - margin, 0). Soft targets weigh both terms, as in cross-entropy. With zeros for all
    three it is `bce`.
    """

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        from torch.nn import functional

        logits, known, targets = _known_cells(logits, targets)
        probabilities = logits.sigmoid()
        present = -functional.logsigmoid(logits)
        if margin:
            shifted = (probabilities - margin).clamp_min(0)
            absent = -(1 - shifted).log()  # finite: a margin keeps the logarithm from zero
        else:
            shifted, absent = probabilities, functional.softplus(logits)
        if gamma_positive:
            present = present * (1 - probabilities).pow(gamma_positive)
        if gamma_negative:
            absent = absent * shifted.pow(gamma_negative)
        return _mean_of_known(targets * present + (1 - targets) * absent, known)

    return loss


def soft_auc(logits: Tensor, targets: Tensor) -> Tensor:
    """Pairwise logistic surrogate of 1 - AUC, with soft targets; a share for each sample, [B].

    Of a class with logits z and targets t, over all ordered pairs of different samples (i, j):

        L = sum w_ij log(1 + exp(z_j - z_i)) / sum w_ij,  w_ij = t_i (1 - t_j)

    w_ij is the probability that i has the class and j has not; with targets of 0 and 1 this is the
    mean over pairs of a positive and a negative (Gao and Zhou, IJCAI 2015, on such surrogates; the
    pairwise log-loss on soft labels of BirdCLEF 2025, 4th place, and 2026, 2nd place). Classes
    without a pair in the batch are left out, and the loss is the mean over the others, as macro
    ROC-AUC is over classes. Pairs with a NaN target are left out too.

    Half of the loss of a pair is given to each of the two, times B, so that the mean over the
    samples is the definition. A sample whose own logits are not finite takes part in no pair and
    gets NaN, so that it alone is named. Pairs are those of one batch of one rank: with
    accumulation or several ranks the loss is the mean over smaller sets of pairs.
    """
    import torch
    from torch.nn import functional

    logits, known, targets = _known_cells(logits, targets)
    finite = logits.isfinite().all(1)
    logits = torch.where(finite[:, None], logits, torch.zeros_like(logits))
    usable = known & finite[:, None]
    present, absent = targets * usable, (1 - targets) * usable
    weights_ijC = present[:, None] * absent[None]
    others = ~torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    weights_ijC = weights_ijC * others[..., None]
    total_C = weights_ijC.sum((0, 1))
    num_classes = (total_C > 0).sum().clamp_min(1)
    share_C = 1 / (total_C.clamp_min(1e-12) * num_classes)
    pairs_ijC = weights_ijC * functional.softplus(logits[None] - logits[:, None]) * share_C
    losses: Tensor = (pairs_ijC.sum((1, 2)) + pairs_ijC.sum((0, 2))) * (len(logits) / 2)
    return losses.masked_fill(~finite, torch.nan)


def _known_cells(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits in 32 bits, True where the target is known, and targets with zeros for unknown."""
    return logits.float(), ~targets.isnan(), targets.nan_to_num(0.0)


def _mean_of_known(cells: Tensor, known: Tensor) -> Tensor:
    """Mean over the known classes of a sample; the others get no gradient."""
    return (cells * known).sum(1) / known.sum(1).clamp_min(1)


def to_distribution(targets: Tensor) -> Tensor:
    """Rows brought to sum one; a row of zeros stays one."""
    return targets / targets.sum(1, keepdim=True).clamp_min(1e-12)


LOSSES: dict[str, Callable[[LossConfig], Loss]] = {
    BCE: lambda _: bce,
    CE: lambda config: cross_entropy if config.normalise_targets else unnormalised_cross_entropy,
    "focal": lambda config: focal(config.focal_gamma),
    "kl": lambda _: kl_divergence,
    "asymmetric": lambda config: asymmetric(
        config.asymmetric_gamma_positive, config.asymmetric_gamma_negative, config.asymmetric_margin
    ),
    SOFT_AUC: lambda _: soft_auc,
}
