"""Augmentations of the position: time shift, masks, patches pasted elsewhere. Targets stay.

Shapes: B samples, M mel bands, T frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from datasets.augment.draws import Draws, Samples, numbers_to
from datasets.augment.ranges import UNIT, AugmentationConfig, ranged

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeShiftConfig(AugmentationConfig):
    """Circular shift along time."""

    max_fraction: float = ranged(1.0, "largest shift, as a fraction of the slice", UNIT)

    def apply(self, samples: Samples, draws: Draws) -> Samples:
        chosen, amount = draws.uniform(2).unbind(1)
        num_frames = samples.mel_BMT.shape[2]
        frames_B = (amount * int(self.max_fraction * num_frames)).ceil().long()
        frames_B = frames_B * (chosen < self.p)
        frame_T = numbers_to(num_frames, chosen.device)
        source_BT = (frame_T - frames_B[:, None]) % num_frames
        shifted = samples.mel_BMT.gather(2, source_BT[:, None].expand_as(samples.mel_BMT))
        return samples._replace(mel_BMT=shifted)


@dataclass(frozen=True, slots=True, kw_only=True)
class XYMaskConfig(AugmentationConfig):
    """Masks over time and over mel bands, filled with one value."""

    time_masks: int = ranged(2, "bars over time", 0)
    time_max_fraction: float = ranged(0.1, "longest bar, as a fraction of the slice", UNIT)
    mel_masks: int = ranged(2, "bars over mel bands", 0)
    mel_max_fraction: float = ranged(0.1, "widest bar, as a fraction of the bands", UNIT)
    fill: float = ranged(0.0, "value under the bars; 0 is silence, 1 the slice maximum", UNIT)

    def apply(self, samples: Samples, draws: Draws) -> Samples:
        mel_BMT = samples.mel_BMT
        num_time, num_mel = self.time_masks, self.mel_masks
        numbers = draws.uniform(1 + 2 * num_time + 2 * num_mel)
        chosen_B1 = numbers[:, :1] < self.p
        time, mel = numbers[:, 1 : 1 + 2 * num_time], numbers[:, 1 + 2 * num_time :]
        under_BT = _under_bars(time, mel_BMT.shape[2], self.time_max_fraction)
        under_BM = _under_bars(mel, mel_BMT.shape[1], self.mel_max_fraction)
        # Factors of 0 and 1 take a third of the time of a boolean mask over all cells.
        free_B1T = (~under_BT | ~chosen_B1)[:, None, :].float()
        free_BM1 = (~under_BM | ~chosen_B1)[:, :, None].float()
        covered_BMT = (mel_BMT * free_B1T).mul_(free_BM1)
        if self.fill:
            covered_BMT = covered_BMT + self.fill * (1 - free_B1T * free_BM1)
        return samples._replace(mel_BMT=covered_BMT)


@dataclass(frozen=True, slots=True, kw_only=True)
class InAugmentConfig(AugmentationConfig):
    """Patches of a slice, with changed level and direction, pasted into the same slice.

    Half of them, by chance, are reversed in time. A patch moves only a little over mel bands, since
    that changes its pitch. Source: InAugment (ICCVW 2021).
    """

    patches: int = ranged(2, "patches that are copied", 1)
    min_fraction: float = ranged(0.1, "smallest side of a patch, as a fraction of the slice", UNIT)
    max_fraction: float = ranged(0.4, "largest side, as a fraction of the slice", UNIT)
    max_db: float = ranged(6.0, "largest change of a patch's level, dB", 0)
    max_mel_shift: float = ranged(
        0.1, "furthest move over bands, fraction; over time it is free", UNIT
    )

    def apply(self, samples: Samples, draws: Draws) -> Samples:
        chosen_B11 = (draws.uniform(1) < self.p)[:, :, None]
        _, num_mels, num_frames = samples.mel_BMT.shape
        source_BN = samples.mel_BMT.flatten(1)  # N: all cells of a slice
        mel_BN = source_BN.clone()
        for numbers_B8 in draws.uniform(1 + 8 * self.patches)[:, 1:].chunk(self.patches, dim=1):
            height, width, mel, move, time, target, turn, level = numbers_B8.unbind(1)
            span = self.max_fraction - self.min_fraction
            height_B = ((self.min_fraction + span * height) * num_mels).ceil().long()
            width_B = ((self.min_fraction + span * width) * num_frames).ceil().long()
            from_mel_B = (mel * (num_mels - height_B + 1)).long()
            move_B = (2 * move - 1) * self.max_mel_shift * num_mels
            to_mel_B = (from_mel_B + move_B.long()).clamp(min=0).minimum(num_mels - height_B)
            from_time_B = (time * (num_frames - width_B + 1)).long()
            to_time_B = (target * (num_frames - width_B + 1)).long()
            mels = _Stretch.of(from_mel_B, to_mel_B, height_B, num_mels, self.max_fraction)
            times = _Stretch.of(from_time_B, to_time_B, width_B, num_frames, self.max_fraction)
            back_BN = (2 * from_time_B + width_B - 1)[:, None] - times.source_BN
            turned_BN = (turn < 0.5)[:, None] & times.inside_BN
            time_BN = back_BN.where(turned_BN, times.source_BN)
            origin_BHW = mels.source_BN[:, :, None] * num_frames + time_BN[:, None, :]
            patch_BHW = source_BN.gather(1, origin_BHW.flatten(1)).view_as(origin_BHW)
            gain_B11 = ((2 * level - 1) * self.max_db / samples.top_db)[:, None, None]
            cell_BHW = mels.cell_BN[:, :, None] * num_frames + times.cell_BN[:, None, :]
            cell_BN = cell_BHW.flatten(1)
            inside_BHW = mels.inside_BN[:, :, None] & times.inside_BN[:, None, :] & chosen_B11
            kept_BHW = mel_BN.gather(1, cell_BN).view_as(patch_BHW)
            pasted_BHW = (patch_BHW + gain_B11).clamp(0, 1).where(inside_BHW, kept_BHW)
            mel_BN.scatter_(1, cell_BN, pasted_BHW.flatten(1))
        return samples._replace(mel_BMT=mel_BN.view_as(samples.mel_BMT))


def _under_bars(numbers: Tensor, size: int, max_fraction: float) -> Tensor:
    """Returns a mask, bool [B, size], of bars with lengths and starts from `numbers`."""
    lengths, starts = numbers.chunk(2, dim=1)
    lengths = lengths * max_fraction * size
    starts = starts * (size - lengths)
    cell = numbers_to(size, numbers.device) + 0.5
    over = (cell >= starts[..., None]) & (cell < (starts + lengths)[..., None])
    return over.any(dim=1)


class _Stretch(NamedTuple):
    """Window of N distinct cells of one axis that includes a patch, int64 [B, N].

    N is the size of the largest patch, so that it is equal for all samples.
    """

    cell_BN: Tensor
    source_BN: Tensor  # the cell copied to each cell
    inside_BN: Tensor  # bool, true inside the patch

    @classmethod
    def of(
        cls, from_B: Tensor, to_B: Tensor, size_B: Tensor, length: int, max_fraction: float
    ) -> _Stretch:
        """Builds from patches of `size_B` cells moved along an axis of `length`."""
        largest = min(length, math.ceil(max_fraction * length) + 1)
        cell_BN = to_B.clamp(max=length - largest)[:, None] + numbers_to(largest, to_B.device)
        offset_BN = cell_BN - to_B[:, None]
        inside_BN = (offset_BN >= 0) & (offset_BN < size_B[:, None])
        source_BN = (from_B[:, None] + offset_BN).where(inside_BN, cell_BN)
        return cls(cell_BN, source_BN, inside_BN)
