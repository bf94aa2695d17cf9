"""Augmentations with a partner of the same batch: MixStyle, mixup, cutmix in time, ResizeMix.

Targets are mixed in the same shares as the slices; a class that is unknown (NaN) in one of two is
unknown in the mixture. MixStyle takes over the partner's recording conditions, not its content, so
targets stay. Shapes: B samples, M mel bands, T frames, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from datasets.augment.draws import Draws, Samples, numbers_to, partners, to_device
from datasets.augment.power import Sounds, add_sounds
from datasets.augment.ranges import POSITIVE, UNIT, AugmentationConfig, ranged
from storage.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DB, POWER = "db", "power"
BETA, CONSTANT = "beta", "constant"
BY_WEIGHT, UNION, UNION_ABOVE = "weight", "union", "union_above"
DOMAINS, WEIGHTS, TARGETS = (DB, POWER), (BETA, CONSTANT), (BY_WEIGHT, UNION, UNION_ABOVE)
BETA_TABLE_SIZE = 65_536
LEAST_SPREAD_DB = 0.8  # of a band over time; below it, stretching would amplify quantisation


@dataclass(frozen=True, slots=True, kw_only=True)
class MixStyleConfig(AugmentationConfig):
    """Mixes each band's mean and deviation over time with a partner's; targets stay.

    This imitates another microphone, distance and background. Sources: MixStyle (Zhou et al., ICLR
    2021), by mel band as in Freq-MixStyle (Schmid et al., DCASE 2022), here on the slice itself.
    Values stay in [0, 1]; where one of the two is silent, the sample is unchanged.
    """

    alpha: float = ranged(0.3, "weights follow Beta(alpha, alpha)", POSITIVE)

    def apply(self, samples: Samples, draws: Draws) -> Samples:
        import torch

        chosen, amount, pairing = draws.uniform(3).unbind(1)
        mel_BMT, partner_B = samples.mel_BMT, partners(pairing)
        weight_B11 = _beta_weights(amount, self.alpha)[:, None, None]
        mean_BM1 = mel_BMT.mean(2, keepdim=True)
        # Cells are at most 1, so squares are exact enough, at a tenth of the time of `torch.std`.
        square_BM1 = torch.linalg.vector_norm(mel_BMT, dim=2, keepdim=True).square()
        variance_BM1 = (square_BM1 / mel_BMT.shape[2] - mean_BM1.square()).clamp_(min=0)
        spread_BM1 = variance_BM1.sqrt_().clamp_(min=LEAST_SPREAD_DB / samples.top_db)
        to_mean_BM1 = mean_BM1[partner_B].lerp(mean_BM1, weight_B11)
        to_spread_BM1 = spread_BM1[partner_B].lerp(spread_BM1, weight_B11)
        heard_B = mel_BMT.amax((1, 2)) > 0
        take_B11 = ((chosen < self.p) & heard_B & heard_B[partner_B])[:, None, None]
        factor_BM1 = torch.where(take_B11, to_spread_BM1 / spread_BM1, 1.0)
        offset_BM1 = torch.where(take_B11, to_mean_BM1 - mean_BM1 * factor_BM1, 0.0)
        return samples._replace(mel_BMT=torch.addcmul(offset_BM1, mel_BMT, factor_BM1).clamp_(0, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class MixupConfig(AugmentationConfig):
    """Weighted sum with another sample of the batch; targets by the same weights, or united.

    The sample gets the larger of the two weights, so its row still names the main content. With
    `domain=db` it is the weighted mean of the cells, each relative to its own slice's maximum; with
    `power` that of the powers at their true levels, as if both had been recorded together. Sources:
    Zhang et al., ICLR 2018; constant weights, powers and united targets: BirdCLEF 2025 and 2026.
    """

    alpha: float = ranged(0.4, "weight=beta: weights follow Beta(alpha, alpha)", POSITIVE)
    domain: str = ranged(DB, "of the sum: db (of the cells), or power (at true levels)", DOMAINS)
    weight: str = ranged(BETA, "beta, or constant", WEIGHTS)
    constant: float = ranged(0.5, "weight=constant: weight of the sample, or 1 less it", UNIT)
    targets: str = ranged(
        BY_WEIGHT,
        "weight: by the weights; union: the larger of both; union_above: that where the smaller "
        "weight is above the threshold, else by the weights",
        TARGETS,
    )
    threshold: float = ranged(0.2, "targets=union_above: the smaller weight is above it", UNIT)

    def apply(self, samples: Samples, draws: Draws) -> Samples:
        chosen, amount, pairing = draws.uniform(3).unbind(1)
        partner_B = partners(pairing)
        weight_B = self._weights(amount)
        weight_B = weight_B.maximum(1 - weight_B).where(chosen < self.p, 1.0)
        if self.domain == POWER:
            mixed = _added(samples, weight_B, partner_B)
        else:
            weight_B11 = weight_B[:, None, None]
            mixed_BMT = samples.mel_BMT[partner_B].lerp_(samples.mel_BMT, weight_B11)
            level_B = samples.level_B  # a mean of dB has the mean of the levels
            if level_B is not None:
                level_B = level_B[partner_B].lerp(level_B, weight_B)
            mixed = samples._replace(mel_BMT=mixed_BMT, level_B=level_B)
        shared = _shared(samples, mixed.mel_BMT, 1 - weight_B, partner_B)
        if self.targets != BY_WEIGHT:
            above_B = 1 - weight_B > (self.threshold if self.targets == UNION_ABOVE else 0.0)
            united_BC = samples.targets_BC.maximum(samples.targets_BC[partner_B])
            shared = shared._replace(
                targets_BC=united_BC.where(above_B[:, None], shared.targets_BC)
            )
        return shared._replace(level_B=mixed.level_B)

    def _weights(self, amount_B: Tensor) -> Tensor:
        if self.weight == CONSTANT:
            return amount_B.new_full(amount_B.shape, self.constant)
        return _beta_weights(amount_B, self.alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutMixConfig(AugmentationConfig):
    """A stretch of time from another sample, over all mel bands; targets in the same shares.

    Source: Yun et al., ICCV 2019; not cut over bands, since calls rarely are cut in pitch.
    """

    max_fraction: float = ranged(0.5, "longest stretch, as a fraction of the slice", UNIT)

    def apply(self, samples: Samples, draws: Draws) -> Samples:
        chosen, amount, start, pairing = draws.uniform(4).unbind(1)
        num_frames = samples.mel_BMT.shape[2]
        frames_B = (amount * self.max_fraction * num_frames).ceil() * (chosen < self.p)
        first_B = (start * (num_frames - frames_B + 1)).floor()
        frame_T = numbers_to(num_frames, chosen.device)
        inside_BT = (frame_T >= first_B[:, None]) & (frame_T < (first_B + frames_B)[:, None])
        partner_B = partners(pairing)
        mel_BMT = samples.mel_BMT[partner_B].where(inside_BT[:, None, :], samples.mel_BMT)
        return _shared(samples, mel_BMT, frames_B / num_frames, partner_B)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeMixConfig(AugmentationConfig):
    """Another sample, shrunk and pasted at random; targets in the share of its area.

    Each side is uniform in [min_side, max_side] of the slice; nearest neighbours, no blending.
    Source: Qin et al., ResizeMix, 2020.
    """

    min_side: float = ranged(0.1, "smallest size of each side, as a fraction of the slice", UNIT)
    max_side: float = ranged(0.8, "largest size of each side, as a fraction of the slice", UNIT)

    def apply(self, samples: Samples, draws: Draws) -> Samples:
        chosen, height, width, mel, time, pairing = draws.uniform(6).unbind(1)
        _, num_mels, num_frames = samples.mel_BMT.shape
        span = self.max_side - self.min_side
        height_B = ((self.min_side + span * height) * num_mels).ceil() * (chosen < self.p)
        width_B = ((self.min_side + span * width) * num_frames).ceil() * (chosen < self.p)
        mel_BM, inside_BM = _shrink(mel, height_B, num_mels)
        time_BT, inside_BT = _shrink(time, width_B, num_frames)
        partner_B = partners(pairing)
        # Indexing full rows is cheaper than `gather`.
        small_BMT = samples.mel_BMT[partner_B[:, None], mel_BM]
        small_BMT = small_BMT.gather(2, time_BT[:, None, :].expand_as(small_BMT))
        inside_BMT = inside_BM[:, :, None] & inside_BT[:, None, :]
        mel_BMT = small_BMT.where(inside_BMT, samples.mel_BMT)
        share_B = height_B * width_B / (num_mels * num_frames)
        return _shared(samples, mel_BMT, share_B, partner_B)


def _shrink(start_B: Tensor, size_B: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Returns the source cell of each cell, int64 [B, length], and a mask of the shrunk axis."""
    first_B = (start_B * (length - size_B + 1)).floor()
    offset_BN = numbers_to(length, start_B.device) - first_B[:, None]
    inside_BN = (offset_BN >= 0) & (offset_BN < size_B[:, None])
    source_BN = ((offset_BN + 0.5) * length / size_B.clamp(min=1)[:, None]).floor()
    return source_BN.clamp(0, length - 1).long(), inside_BN


def _added(samples: Samples, weight_B: Tensor, partner_B: Tensor) -> Samples:
    """Adds partners in power, at true levels; samples of weight 1 stay as they are, to the bit."""
    if samples.level_B is None:
        raise ConfigError(
            "augment.mixup.domain=power needs the levels of the slices, and the reader gave none"
        )
    own = Sounds(samples.mel_BMT, samples.level_B)
    other = Sounds(samples.mel_BMT[partner_B], samples.level_B[partner_B])
    cells_BMT, level_B = add_sounds(own, other, weight_B, samples.top_db)
    mixed_B = weight_B < 1
    return samples._replace(
        mel_BMT=cells_BMT.where(mixed_B[:, None, None], samples.mel_BMT),
        level_B=level_B.where(mixed_B, samples.level_B),
    )


def _shared(samples: Samples, mel_BMT: Tensor, share_B: Tensor, partner_B: Tensor) -> Samples:
    """Replaces the cells, and mixes the targets by the partner's share in [0, 1]."""
    targets_BC, share_B1 = samples.targets_BC, share_B[:, None]
    mixed_BC = targets_BC * (1 - share_B1) + targets_BC[partner_B] * share_B1
    targets_BC = mixed_BC.where(share_B1 > 0, targets_BC)  # a share of 0 must not spread NaN
    return samples._replace(mel_BMT=mel_BMT, targets_BC=targets_BC)


def _beta_weights(amount_B: Tensor, alpha: float) -> Tensor:
    """Maps numbers in [0, 1) to weights that follow Beta(alpha, alpha), float32 [B]."""
    table = _beta_table(alpha, amount_B.device)
    return table[(amount_B * len(table)).long()]


@lru_cache(maxsize=4)
def _beta_table(alpha: float, device: torch.device) -> Tensor:
    """Draws BETA_TABLE_SIZE values of Beta(alpha, alpha), float32."""
    draws = np.random.default_rng(0).beta(alpha, alpha, BETA_TABLE_SIZE)
    return to_device(draws.astype(np.float32), device)
