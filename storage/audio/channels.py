"""Several channels of a recording become one: their mean, or one of them.

Channels that are each other's negative, as of a cable with one side turned, cancel in the mean:
this is noticed, from sums over the whole recording.
"""

import math

import numpy as np

from storage.errors import AudioError, ConfigError

MEAN, LOUDEST = "mean", "loudest"
_SIDES = {"left": 0, "right": 1}
MAX_CORRELATION = -0.5  # of two channels that may cancel
MIN_LOSS_DB = 10.0  # of the mean against the loudest channel


def check_channel(channel: str, key: str = "source.channel") -> None:
    """Raises ConfigError unless it is mean, loudest, left, right or a number."""
    known = (MEAN, LOUDEST, *_SIDES)
    if channel not in known and not (channel.isascii() and channel.isdecimal()):
        raise ConfigError(f"{key}={channel} is none of {', '.join(known)}, or a number from 0")


def channel_number(channel: str, num_channels: int) -> int | None:
    """The number of the channel to take; None for the mean. A mono recording is taken as it is.

    Raises AudioError where there is no such channel. `loudest` is not known here: see
    `ChannelLevels`.
    """
    if channel in (MEAN, LOUDEST) or num_channels == 1:
        return None
    number = _SIDES[channel] if channel in _SIDES else int(channel)
    if number >= num_channels:
        raise AudioError(
            f"it has {num_channels} channels, and source.channel={channel} is none of them"
        )
    return number


class ChannelLevels:
    """Sums over the samples of a recording: levels and correlation of its channels."""

    def __init__(self) -> None:
        self._num = 0
        self._sum_C = np.zeros(0)
        self._products_CC = np.zeros((0, 0))

    def add(self, block: np.ndarray) -> None:
        """Adds samples [n, C]; a stream with another number of channels starts from nothing."""
        if block.shape[1] != len(self._sum_C):
            self._num = 0
            self._sum_C = np.zeros(block.shape[1])
            self._products_CC = np.zeros((block.shape[1], block.shape[1]))
        self._num += len(block)
        with np.errstate(invalid="ignore", over="ignore"):
            # channel by channel, which is 10 times as fast as `sum(axis=0)`
            self._sum_C += [channel.sum(dtype=np.float64) for channel in block.T]
            self._products_CC += block.T @ block

    def loudest(self) -> int:
        """The number of the channel with the most power, its constant part left out."""
        return int(np.argmax(np.nan_to_num(np.diag(self._covariance_CC()))))

    def problem(self) -> str | None:
        """Sentence on channels that cancel in their mean; None where they do not."""
        if len(self._sum_C) < 2 or not self._num:
            return None
        covariance_CC = self._covariance_CC()
        if not np.isfinite(covariance_CC).all():
            return None
        power_C = np.diag(covariance_CC)
        loudest = float(power_C.max())
        if not loudest > 0:
            return None
        scale_C = np.sqrt(power_C.clip(min=loudest * 1e-12))
        correlation = float((covariance_CC / np.outer(scale_C, scale_C)).min())
        mean_power = max(float(covariance_CC.mean()), loudest * 1e-6)
        loss_db = 10 * math.log10(loudest / mean_power)
        if correlation >= MAX_CORRELATION or loss_db < MIN_LOSS_DB:
            return None
        return (
            f"its channels cancel (correlation {correlation:.2f}): their mean is {loss_db:.0f} dB "
            "below one of them, or more; source.channel=left, right or loudest takes one"
        )

    def _covariance_CC(self) -> np.ndarray:
        """Covariance of the channels; not finite where samples are not."""
        mean_C = self._sum_C / max(1, self._num)
        with np.errstate(invalid="ignore", over="ignore"):
            squares_CC: np.ndarray = np.outer(mean_C, mean_C)
            return np.asarray(self._products_CC / max(1, self._num) - squares_CC)
