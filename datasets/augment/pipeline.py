"""Batched, seeded augmentation of slices and their targets, on their device.

    augment = Augment(AugmentConfig(), seed=0, top_db=80.0)
    slices, targets = augment(slices, targets, epoch, position, background)

An augmentation is one class and one field of AugmentConfig, in the order in which they act; the
partners of `sampling.inject` are added before all of them (`datasets.augment.inject`). The name of
the field is its stream of random numbers, so a new one does not change the numbers of the others.
Only the partner of a mixing comes from the same batch. With `p=0` it changes no bit.

Shapes: B samples, M mel bands, T frames, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from datasets.augment import level, mix, place
from datasets.augment.draws import Draws, Samples, sample_keys
from datasets.augment.host_images import check_specs
from datasets.augment.ranges import check_ranges

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """Config of the augmentations of training samples; all are off by default.

    The reader applies `images` (`datasets.augment.host_images`), `Augment` the others.
    """

    images: list[dict[str, Any]] = field(
        default_factory=list,
        metadata={"help": "albumentations on the host, in order: [{name: RandomGamma, p: 0.3}]"},
    )
    time_shift: place.TimeShiftConfig = field(default_factory=place.TimeShiftConfig)
    background: level.BackgroundMixConfig = field(default_factory=level.BackgroundMixConfig)
    low_pass: level.LowPassConfig = field(default_factory=level.LowPassConfig)
    equalizer: level.EqualizerConfig = field(default_factory=level.EqualizerConfig)
    mix_style: mix.MixStyleConfig = field(default_factory=mix.MixStyleConfig)
    gain: level.GainConfig = field(default_factory=level.GainConfig)
    noise: level.NoiseConfig = field(default_factory=level.NoiseConfig)
    in_augment: place.InAugmentConfig = field(default_factory=place.InAugmentConfig)
    cutmix: mix.CutMixConfig = field(default_factory=mix.CutMixConfig)
    resize_mix: mix.ResizeMixConfig = field(default_factory=mix.ResizeMixConfig)
    mixup: mix.MixupConfig = field(default_factory=mix.MixupConfig)
    xy_mask: place.XYMaskConfig = field(default_factory=place.XYMaskConfig)

    def __post_init__(self) -> None:
        check_specs(self.images)
        for name in AUGMENTATIONS:
            check_ranges(getattr(self, name), f"augment.{name}")


AUGMENTATIONS = tuple(one.name for one in fields(AugmentConfig) if one.name != "images")


class Augment:
    """Applies the augmentations of a config, in the order of AUGMENTATIONS.

    `top_db` is the range of the slices' recipe, dB.
    """

    def __init__(self, config: AugmentConfig, *, seed: int, top_db: float) -> None:
        self._active = [
            (name, getattr(config, name)) for name in AUGMENTATIONS if getattr(config, name).p > 0
        ]
        self._seed = seed
        self._top_db = top_db

    def __call__(
        self,
        mel_BMT: Tensor,
        targets_BC: Tensor,
        epoch: Tensor,
        position_B: Tensor,
        background_BMT: Tensor | None = None,
        level_B: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Augments slices float [B, M, T] in [0, 1] and targets [B, C]; inputs are unchanged.

        `epoch` int64 [] and `position_B` int64 [B] determine every number drawn. Only
        `augment.background` uses `background_BMT`, like the slices, and only mixing at true levels
        `level_B`, float32, dB re full scale of a cell of 1.
        """
        samples = Samples(mel_BMT, targets_BC, self._top_db, background_BMT, level_B)
        for name, augmentation in self._active:
            key_B = sample_keys(self._seed, name, epoch, position_B)
            samples = augmentation.apply(samples, Draws(key_B, self._seed))
        return samples.mel_BMT, samples.targets_BC
