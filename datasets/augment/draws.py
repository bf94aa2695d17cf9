"""Batch of samples inside the augmentations, and the random numbers of each sample.

Every number drawn is a counter hash of (seed, augmentation, epoch, position of the sample in the
epoch), so the augmentation of a sample depends neither on its batch nor on ranks or workers.

Shapes: B samples, M mel bands, T frames, C classes.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch  # the configs need none of it, and importing it takes seconds
    from torch import Tensor

GOLDEN_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)  # as signed 64 bits, which is what torch has
NORMAL_BANK_STEP = 61  # windows of the bank start at its multiples; prime, so rows do not align
NORMAL_BANK_WINDOWS = 16_384


class Samples(NamedTuple):
    """Batch of samples inside the augmentations.

    `level_B`, float32, is the level that a cell of 1 stands for, dB re full scale; None where
    nothing is mixed at true levels.
    """

    mel_BMT: Tensor  # float, 1 is the slice maximum, 0 is `top_db` below it
    targets_BC: Tensor
    top_db: float
    background_BMT: Tensor | None = None  # like mel_BMT, to be mixed in
    level_B: Tensor | None = None


class Draws(NamedTuple):
    """Random numbers of one augmentation, one row per sample."""

    key_B: Tensor
    seed: int

    def uniform(self, num: int) -> Tensor:
        """Returns float32 [B, num], uniform in [0, 1); a larger `num` only adds columns."""
        steps = (numbers_to(num, self.key_B.device) + 1) * GOLDEN_GAMMA
        return (_mix(self.key_B[:, None] + steps) >> 40 & 0xFFFFFF).float() / 2.0**24

    def normal(self, choice_B: Tensor, num: int) -> Tensor:
        """Returns float32 [B, num], standard normal: window `choice_B` in [0, 1) of a fixed series.

        Cells of one sample are independent; two samples may share a stretch of the series.
        """
        bank = _normal_bank(num, self.seed, choice_B.device)
        windows = bank.unfold(0, num, NORMAL_BANK_STEP)
        return windows[(choice_B * len(windows)).long()]


def sample_keys(seed: int, name: str, epoch: Tensor, position_B: Tensor) -> Tensor:
    """Returns one key per sample of the named stream, int64 [B], a pure function."""
    start = position_B.new_tensor(seed)
    stream = zlib.crc32(name.encode())
    return _mix(_mix(_mix(start + stream * GOLDEN_GAMMA % (1 << 62)) + epoch) + position_B)


def partners(number_B: Tensor) -> Tensor:
    """Pairs each sample with another by random numbers, int64 [B]; not itself where B > 1."""
    order_B = number_B.argsort()
    return order_B.new_empty(order_B.shape).scatter_(0, order_B, order_B.roll(-1))


def numbers_to(num: int, device: torch.device) -> Tensor:
    """Returns 0 to num - 1, int64 [num]."""
    import torch

    return torch.arange(num, device=device)


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """Returns an array as a tensor of the device."""
    import torch

    return torch.from_numpy(values).to(device)


def _mix(state: Tensor) -> Tensor:
    """Applies the finaliser of SplitMix64 (Steele, Lea, Flood 2014) to int64 with wrap-around."""
    state = (state ^ _shift_right(state, 30)) * (0xBF58476D1CE4E5B9 - (1 << 64))
    state = (state ^ _shift_right(state, 27)) * (0x94D049BB133111EB - (1 << 64))
    return state ^ _shift_right(state, 31)


def _shift_right(state: Tensor, bits: int) -> Tensor:
    return (state >> bits) & ((1 << (64 - bits)) - 1)


@lru_cache(maxsize=4)  # a few megabytes each
def _normal_bank(window: int, seed: int, device: torch.device) -> Tensor:
    size = window + NORMAL_BANK_STEP * NORMAL_BANK_WINDOWS
    series = np.random.default_rng(seed).standard_normal(size, dtype=np.float32)
    return to_device(series, device)
