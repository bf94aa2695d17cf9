"""Augmentations of the level: gain, noise, background, low-pass, equaliser. Targets stay.

Shapes: B samples, M mel bands, T frames. Cells are dB, scaled: 1 is the slice maximum, 0 is
`top_db` below it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasets.augment.draws import Draws, Samples
from datasets.augment.ranges import UNIT, AugmentationConfig, ranged
from storage.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class GainConfig(AugmentationConfig):
    """Adds up to `max_db` up or down; values stay in [0, 1]."""

    max_db: float = ranged(6.0, "largest change up or down, dB", 0)

    def apply(self, samples: Samples, draws: Draws) -> Samples:
        chosen, amount = draws.uniform(2).unbind(1)
        gain_B = (2 * amount - 1) * self.max_db / samples.top_db * (chosen < self.p)
        return samples._replace(mel_BMT=(samples.mel_BMT + gain_B[:, None, None]).clamp_(0, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseConfig(AugmentationConfig):
    """Adds independent normal noise to every cell; values stay in [0, 1]."""

    max_db: float = ranged(6.0, "largest standard deviation, dB", 0)

    def apply(self, samples: Samples, draws: Draws) -> Samples:
        chosen, amount, window = draws.uniform(3).unbind(1)
        mel_BMT = samples.mel_BMT
        std_B = amount * self.max_db / samples.top_db * (chosen < self.p)
        noise_BMT = draws.normal(window, mel_BMT[0].numel()).view_as(mel_BMT)
        noisy_BMT = mel_BMT.addcmul(std_B[:, None, None], noise_BMT).clamp_(0, 1)
        return samples._replace(mel_BMT=noisy_BMT)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundMixConfig(AugmentationConfig):
    """Adds a slice of the background source; needs `background.store` or `.shards`.

    It is added in power, at a signal-to-noise ratio (dB) uniform in the range. Cells are power
    relative to the maximum of the slice, and so is the result. Where either slice is silent, the
    sample is unchanged.
    """

    min_snr_db: float = ranged(0.0, "smallest mean power of sample over background, dB")
    max_snr_db: float = ranged(20.0, "largest mean power of sample over background, dB")

    def apply(self, samples: Samples, draws: Draws) -> Samples:
        import torch

        if samples.background_BMT is None:
            raise ConfigError(
                "augment.background.p > 0 needs a background source: background.store="
            )
        chosen, amount = draws.uniform(2).unbind(1)
        snr_db_B = self.min_snr_db + amount * (self.max_snr_db - self.min_snr_db)
        power_BMT = _power(samples.mel_BMT, samples.top_db)
        noise_BMT = _power(samples.background_BMT, samples.top_db)
        ratio_B = power_BMT.mean((1, 2)) / noise_BMT.mean((1, 2)) / 10 ** (snr_db_B / 10)
        mixed_BMT = power_BMT.addcmul_(noise_BMT, ratio_B[:, None, None])
        maximum_B11 = mixed_BMT.amax((1, 2), keepdim=True)
        db_BMT = mixed_BMT.div_(maximum_B11).log10_().mul_(10)
        heard_B = (samples.mel_BMT.amax((1, 2)) > 0) & (samples.background_BMT.amax((1, 2)) > 0)
        take_B11 = ((chosen < self.p) & heard_B)[:, None, None]
        cells_BMT = db_BMT.div_(samples.top_db).add_(1).clamp_(0, 1)
        level_B = samples.level_B
        if level_B is not None:
            level_B = torch.where(take_B11, 10 * maximum_B11.log10(), 0.0).flatten() + level_B
        cells_BMT = cells_BMT.where(take_B11, samples.mel_BMT)
        return samples._replace(mel_BMT=cells_BMT, level_B=level_B)


@dataclass(frozen=True, slots=True, kw_only=True)
class LowPassConfig(AugmentationConfig):
    """Random low-pass, as distance or foliage has it.

    Lowers the bands above a cutoff uniform in [min_fraction, 1], band by band. The result is
    rescaled to the maximum of the slice before.
    """

    min_fraction: float = ranged(0.4, "lowest cutoff, as a fraction of the mel bands", UNIT)
    slope_db: float = ranged(12.0, "fall per tenth of the mel bands above the cutoff, dB", 0)

    def apply(self, samples: Samples, draws: Draws) -> Samples:
        import torch

        chosen, cutoff = draws.uniform(2).unbind(1)
        mel_BMT = samples.mel_BMT
        band_M = torch.linspace(0, 1, mel_BMT.shape[1], device=mel_BMT.device)
        cutoff_B1 = (self.min_fraction + cutoff * (1 - self.min_fraction))[:, None]
        fall_BM = (band_M - cutoff_B1).clamp(min=0) * 10 * self.slope_db / samples.top_db
        lower_BMT = mel_BMT - fall_BM[:, :, None]
        take_B11 = (chosen < self.p)[:, None, None]
        cells_BMT = _as_loud(lower_BMT, mel_BMT).where(take_B11, mel_BMT)
        return samples._replace(mel_BMT=cells_BMT)


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualizerConfig(AugmentationConfig):
    """Smooth random gain over the bands, as another microphone or distance has it.

    The linear type of FilterAugment (Nam, Kim, Park 2022), with bands of equal width. The result is
    rescaled to the maximum of the slice before.
    """

    max_db: float = ranged(6.0, "largest gain up or down, dB", 0)
    points: int = ranged(
        4, "points over the mel bands whose gains are drawn; linear between them", 2
    )

    def apply(self, samples: Samples, draws: Draws) -> Samples:
        from torch.nn import functional

        numbers = draws.uniform(1 + self.points)
        mel_BMT = samples.mel_BMT
        gain_B1P = (2 * numbers[:, None, 1:] - 1) * self.max_db / samples.top_db
        gain_B1M = functional.interpolate(
            gain_B1P, size=mel_BMT.shape[1], mode="linear", align_corners=True
        )
        take_B11 = (numbers[:, 0] < self.p)[:, None, None]
        cells_BMT = _as_loud(mel_BMT + gain_B1M.mT, mel_BMT).where(take_B11, mel_BMT)
        return samples._replace(mel_BMT=cells_BMT)


def _as_loud(changed_BMT: Tensor, mel_BMT: Tensor) -> Tensor:
    """Rescales changed slices to their maximum before; values stay in [0, 1]."""
    loss_B11 = mel_BMT.amax((1, 2), keepdim=True) - changed_BMT.amax((1, 2), keepdim=True)
    return (changed_BMT + loss_B11).clamp(0, 1)


def _power(mel_BMT: Tensor, top_db: float) -> Tensor:
    """Converts cells to power relative to the slice maximum."""
    return (mel_BMT - 1).mul_(top_db / 10 * math.log(10)).exp_()  # a third of the time of 10**x
