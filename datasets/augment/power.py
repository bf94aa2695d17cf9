"""Sounds added at their true levels, as a microphone would have heard both.

    cells_BMT, level_B = add_sounds(first, second, weight_B, top_db)

A cell of value x in a sample of level L has the power 10 ** ((L + (x - 1) * top_db) / 10), and none
where x is 0: what is that far below the maximum is taken for silence. The sum is relative to its
own maximum again, whose level is the level of the result.

Shapes: B samples, M mel bands, T frames.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

TO_DB = 10 / math.log(10)
LEAST = 1e-30  # power relative to the louder one; so that its logarithm is finite


class Sounds(NamedTuple):
    """B slices or chunks: cells float [B, M, T] in [0, 1]; float32 [B]: dB that 1 stands for."""

    mel_BMT: Tensor
    level_B: Tensor


def add_sounds(
    first: Sounds, second: Sounds, weight_B: Tensor, top_db: float
) -> tuple[Tensor, Tensor]:
    """Returns cells and level of weight * first + (1 - weight) * second, in power.

    Where both are silent, the first stays.
    """
    loudest_B = first.level_B.maximum(second.level_B)
    power_BMT = _power(first, loudest_B, top_db).mul_(weight_B[:, None, None])
    power_BMT += _power(second, loudest_B, top_db).mul_(1 - weight_B[:, None, None])
    maximum_B = power_BMT.amax((1, 2))
    heard_B = maximum_B > LEAST
    gain_B = maximum_B.clamp_(min=LEAST).log() * TO_DB
    db_BMT = power_BMT.clamp_(min=LEAST).log_().mul_(TO_DB) - gain_B[:, None, None]
    cells_BMT = db_BMT.div_(top_db).add_(1).clamp_(0, 1)
    cells_BMT = cells_BMT.where(heard_B[:, None, None], first.mel_BMT)
    return cells_BMT, (loudest_B + gain_B).where(heard_B, first.level_B)


def _power(sounds: Sounds, loudest_B: Tensor, top_db: float) -> Tensor:
    """Power relative to that of the level `loudest_B`; none where a cell is 0."""
    below_B = (sounds.level_B - loudest_B)[:, None, None]
    power_BMT = ((sounds.mel_BMT.float() - 1) * top_db).add_(below_B).div_(TO_DB).exp_()
    return power_BMT.mul_(sounds.mel_BMT > 0)
