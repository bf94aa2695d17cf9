"""Batched, seeded augmentation of slices and their targets, on the device they lie on.

    augment = Augment(AugmentConfig(), seed=0, top_db=80.0)
    slices, targets = augment(slices, targets, epoch, position)

Every number drawn is a counter hash of (seed, augmentation, epoch, position of the sample in the
epoch), so a sample is augmented alike whatever its batch, its rank and the number of workers; only
the partner of a mixing comes from the same batch. With `p=0` an augmentation changes no bit.

An augmentation is one function `(samples, draws, config) -> samples` and one line in
AUGMENTATIONS, in the order in which they act. Its name there is its field in AugmentConfig and its
stream of random numbers, so a new one leaves the numbers of the others as they were.

Shapes: B samples, M mel bands, T frames, C classes.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from storage.errors import ConfigError
from storage.options import option

GOLDEN_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)  # as signed 64 bits, which is what torch has
NORMAL_BANK_STEP = 61  # windows of the bank start at its multiples: prime, so rows do not line up
NORMAL_BANK_WINDOWS = 16_384
BETA_TABLE_SIZE = 65_536


class Samples(NamedTuple):
    """A batch on its way through the augmentations."""

    mel_BMT: Tensor  # float, 1 is the slice maximum, 0 is `top_db` below it
    targets_BC: Tensor
    top_db: float


class Draws(NamedTuple):
    """The random numbers of one augmentation, one row per sample."""

    key_B: Tensor
    seed: int

    def uniform(self, num: int) -> Tensor:
        """float32 [B, num], uniform in [0, 1); a larger `num` only adds columns."""
        steps = torch.arange(1, num + 1, device=self.key_B.device) * GOLDEN_GAMMA
        return (_mix(self.key_B[:, None] + steps) >> 40 & 0xFFFFFF).float() / 2.0**24

    def normal(self, choice_B: Tensor, num: int) -> Tensor:
        """float32 [B, num], standard normal: window `choice` (in [0, 1)) of a fixed long series.

        Cells of one sample are independent; two samples may share a stretch of the series.
        """
        bank = _normal_bank(num, self.seed, choice_B.device)
        windows = bank.unfold(0, num, NORMAL_BANK_STEP)
        return windows[(choice_B * len(windows)).long()]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeShiftConfig:
    """Circular shift along time."""

    p: float = option(0.0, "probability per sample")
    max_fraction: float = option(1.0, "largest shift, as a fraction of the slice")

    def __post_init__(self) -> None:
        _check_fractions("time_shift", p=self.p, max_fraction=self.max_fraction)


@dataclass(frozen=True, slots=True, kw_only=True)
class GainConfig:
    """Louder or softer against the fixed range that a slice shows."""

    p: float = option(0.0, "probability per sample")
    max_db: float = option(6.0, "largest change up or down, dB")

    def __post_init__(self) -> None:
        _check_fractions("gain", p=self.p)
        _check_not_negative("gain", max_db=self.max_db)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseConfig:
    """Independent normal noise on every cell."""

    p: float = option(0.0, "probability per sample")
    max_db: float = option(6.0, "largest standard deviation, dB")

    def __post_init__(self) -> None:
        _check_fractions("noise", p=self.p)
        _check_not_negative("noise", max_db=self.max_db)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixupConfig:
    """Weighted mean with another sample of the batch; targets get the same weights."""

    p: float = option(0.0, "probability per sample")
    alpha: float = option(0.4, "weights follow Beta(alpha, alpha)")

    def __post_init__(self) -> None:
        _check_fractions("mixup", p=self.p)
        if not self.alpha > 0:
            raise ConfigError(f"augment.mixup.alpha must be positive, not {self.alpha}")


@dataclass(frozen=True, slots=True, kw_only=True)
class XYMaskConfig:
    """Bars over time and bars over mel bands, filled with one value."""

    p: float = option(0.0, "probability per sample")
    time_masks: int = option(2, "bars over time")
    time_max_fraction: float = option(0.1, "longest bar, as a fraction of the slice")
    mel_masks: int = option(2, "bars over mel bands")
    mel_max_fraction: float = option(0.1, "widest bar, as a fraction of the bands")
    fill: float = option(0.0, "value under the bars; 0 is silence, 1 the slice maximum")

    def __post_init__(self) -> None:
        _check_fractions(
            "xy_mask",
            p=self.p,
            time_max_fraction=self.time_max_fraction,
            mel_max_fraction=self.mel_max_fraction,
            fill=self.fill,
        )
        _check_not_negative("xy_mask", time_masks=self.time_masks, mel_masks=self.mel_masks)


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """What is done to training samples; all off unless a probability says otherwise."""

    time_shift: TimeShiftConfig = field(default_factory=TimeShiftConfig)
    gain: GainConfig = field(default_factory=GainConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    mixup: MixupConfig = field(default_factory=MixupConfig)
    xy_mask: XYMaskConfig = field(default_factory=XYMaskConfig)


def shift_time(samples: Samples, draws: Draws, config: TimeShiftConfig) -> Samples:
    """Rotates a slice along time; what leaves at the end comes in at the start."""
    chosen, amount = draws.uniform(2).unbind(1)
    num_frames = samples.mel_BMT.shape[2]
    frames_B = (amount * int(config.max_fraction * num_frames)).ceil().long()
    frames_B = frames_B * (chosen < config.p)
    source_BT = (torch.arange(num_frames, device=chosen.device) - frames_B[:, None]) % num_frames
    shifted = samples.mel_BMT.gather(2, source_BT[:, None].expand_as(samples.mel_BMT))
    return samples._replace(mel_BMT=shifted)


def change_gain(samples: Samples, draws: Draws, config: GainConfig) -> Samples:
    """Adds up to `max_db` up or down; values stay in [0, 1]."""
    chosen, amount = draws.uniform(2).unbind(1)
    gain_B = (2 * amount - 1) * config.max_db / samples.top_db * (chosen < config.p)
    return samples._replace(mel_BMT=(samples.mel_BMT + gain_B[:, None, None]).clamp(0, 1))


def add_noise(samples: Samples, draws: Draws, config: NoiseConfig) -> Samples:
    """Adds normal noise of a standard deviation up to `max_db`; values stay in [0, 1]."""
    chosen, amount, window = draws.uniform(3).unbind(1)
    mel_BMT = samples.mel_BMT
    std_B = amount * config.max_db / samples.top_db * (chosen < config.p)
    noise_BMT = draws.normal(window, mel_BMT[0].numel()).view_as(mel_BMT)
    return samples._replace(mel_BMT=(mel_BMT + std_B[:, None, None] * noise_BMT).clamp(0, 1))


def mix_up(samples: Samples, draws: Draws, config: MixupConfig) -> Samples:
    """Mixes a sample with its partner, never with itself; source: Zhang et al., ICLR 2018.

    The larger of the two weights is the sample's own, so it stays the one its row names.
    """
    chosen, amount, place = draws.uniform(3).unbind(1)
    order_B = place.argsort()
    partner_B = torch.empty_like(order_B).scatter_(0, order_B, order_B.roll(-1))
    table = _beta_table(config.alpha, chosen.device)
    weight_B = torch.where(chosen < config.p, table[(amount * len(table)).long()], 1.0)
    mel_BMT, targets_BC = samples.mel_BMT, samples.targets_BC
    mel_weight, target_weight = weight_B[:, None, None], weight_B[:, None]
    return samples._replace(
        mel_BMT=mel_BMT * mel_weight + mel_BMT[partner_B] * (1 - mel_weight),
        targets_BC=targets_BC * target_weight + targets_BC[partner_B] * (1 - target_weight),
    )


def mask_xy(samples: Samples, draws: Draws, config: XYMaskConfig) -> Samples:
    """Covers up to `time_masks` stretches of time and `mel_masks` ranges of bands."""
    mel_BMT = samples.mel_BMT
    num_time, num_mel = config.time_masks, config.mel_masks
    numbers = draws.uniform(1 + 2 * num_time + 2 * num_mel)
    chosen_B11 = (numbers[:, 0] < config.p)[:, None, None]
    time, mel = numbers[:, 1 : 1 + 2 * num_time], numbers[:, 1 + 2 * num_time :]
    under_BT = _under_bars(time, mel_BMT.shape[2], config.time_max_fraction)
    under_BM = _under_bars(mel, mel_BMT.shape[1], config.mel_max_fraction)
    under_BMT = (under_BT[:, None, :] | under_BM[:, :, None]) & chosen_B11
    return samples._replace(mel_BMT=mel_BMT.masked_fill(under_BMT, config.fill))


AUGMENTATIONS: dict[str, Callable[[Samples, Draws, Any], Samples]] = {
    "time_shift": shift_time,
    "gain": change_gain,
    "noise": add_noise,
    "mixup": mix_up,
    "xy_mask": mask_xy,
}


class Augment:
    """Applies the augmentations of a config, in the order of AUGMENTATIONS.

    `top_db` is the range of the slices' recipe, dB.
    """

    def __init__(self, config: AugmentConfig, *, seed: int, top_db: float) -> None:
        self._active = [
            (name, augmentation, getattr(config, name))
            for name, augmentation in AUGMENTATIONS.items()
            if getattr(config, name).p > 0
        ]
        self._seed = seed
        self._top_db = top_db

    def __call__(
        self, mel_BMT: Tensor, targets_BC: Tensor, epoch: Tensor, position_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Slices float [B, M, T] in [0, 1] and targets [B, C], augmented; inputs stay as given.

        `epoch` int64 [] and `position_B` int64 [B] decide every number drawn.
        """
        samples = Samples(mel_BMT, targets_BC, self._top_db)
        for name, augmentation, config in self._active:
            key_B = sample_keys(self._seed, name, epoch, position_B)
            samples = augmentation(samples, Draws(key_B, self._seed), config)
        return samples.mel_BMT, samples.targets_BC


def sample_keys(seed: int, name: str, epoch: Tensor, position_B: Tensor) -> Tensor:
    """int64 [B]: one key per sample of the named stream; equal arguments give equal keys."""
    start = torch.tensor(seed, dtype=torch.int64, device=position_B.device)
    stream = zlib.crc32(name.encode())
    return _mix(_mix(_mix(start + stream * GOLDEN_GAMMA % (1 << 62)) + epoch) + position_B)


def _mix(state: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014) on int64 with wrap-around."""
    state = (state ^ _shift_right(state, 30)) * (0xBF58476D1CE4E5B9 - (1 << 64))
    state = (state ^ _shift_right(state, 27)) * (0x94D049BB133111EB - (1 << 64))
    return state ^ _shift_right(state, 31)


def _shift_right(state: Tensor, bits: int) -> Tensor:
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def _under_bars(numbers: Tensor, size: int, max_fraction: float) -> Tensor:
    """bool [B, size]: cells under bars whose lengths and starts are columns of `numbers`."""
    lengths, starts = numbers.chunk(2, dim=1)
    lengths = lengths * max_fraction * size
    starts = starts * (size - lengths)
    cell = torch.arange(size, device=numbers.device) + 0.5
    over = (cell >= starts[..., None]) & (cell < (starts + lengths)[..., None])
    return over.any(dim=1)


@lru_cache(maxsize=4)  # a few megabytes each
def _normal_bank(window: int, seed: int, device: torch.device) -> Tensor:
    size = window + NORMAL_BANK_STEP * NORMAL_BANK_WINDOWS
    series = np.random.default_rng(seed).standard_normal(size, dtype=np.float32)
    return torch.from_numpy(series).to(device)


@lru_cache(maxsize=4)
def _beta_table(alpha: float, device: torch.device) -> Tensor:
    """float32: draws of Beta(alpha, alpha), each replaced by the larger of it and its rest."""
    draws = np.random.default_rng(0).beta(alpha, alpha, BETA_TABLE_SIZE)
    return torch.from_numpy(np.maximum(draws, 1 - draws).astype(np.float32)).to(device)


def _check_fractions(section: str, **values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"augment.{section}.{name} must lie in 0 to 1, not {value}")


def _check_not_negative(section: str, **values: float) -> None:
    for name, value in values.items():
        if value < 0:
            raise ConfigError(f"augment.{section}.{name} must not be negative, not {value}")
