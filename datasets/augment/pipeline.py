"""Batched, seeded augmentation of slices and their targets, on their device.

    augment = Augment(AugmentConfig(), seed=0, top_db=80.0)
    slices, targets = augment(slices, targets, epoch, position, background)

An augmentation is one function `(samples, draws, config) -> samples` and one line in
AUGMENTATIONS, in the order in which they act. Its name there is its field in AugmentConfig and its
stream of random numbers, so a new one does not change the numbers of the others. Only the partner
of a mixing comes from the same batch. With `p=0` an augmentation changes no bit.

Shapes: B samples, M mel bands, T frames, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from datasets.augment.draws import Draws, Samples, sample_keys
from datasets.augment.host_images import check_specs
from datasets.augment.level import (
    BackgroundMixConfig,
    EqualizerConfig,
    GainConfig,
    LowPassConfig,
    NoiseConfig,
    add_noise,
    change_gain,
    cut_highs,
    equalize,
    mix_background,
)
from datasets.augment.mix import (
    CutMixConfig,
    MixStyleConfig,
    MixupConfig,
    ResizeMixConfig,
    cut_mix,
    mix_style,
    mix_up,
    resize_mix,
)
from datasets.augment.place import (
    InAugmentConfig,
    TimeShiftConfig,
    XYMaskConfig,
    mask_xy,
    paste_patches,
    shift_time,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """Config of the augmentations of training samples; all are off by default.

    The reader applies `images` (`datasets.augment.host_images`), `Augment` the others.
    """

    images: list[dict[str, Any]] = field(
        default_factory=list,
        metadata={"help": "albumentations on the host, in order: [{name: RandomGamma, p: 0.3}]"},
    )
    time_shift: TimeShiftConfig = field(default_factory=TimeShiftConfig)
    background: BackgroundMixConfig = field(default_factory=BackgroundMixConfig)
    low_pass: LowPassConfig = field(default_factory=LowPassConfig)
    equalizer: EqualizerConfig = field(default_factory=EqualizerConfig)
    mix_style: MixStyleConfig = field(default_factory=MixStyleConfig)
    gain: GainConfig = field(default_factory=GainConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    in_augment: InAugmentConfig = field(default_factory=InAugmentConfig)
    cutmix: CutMixConfig = field(default_factory=CutMixConfig)
    resize_mix: ResizeMixConfig = field(default_factory=ResizeMixConfig)
    mixup: MixupConfig = field(default_factory=MixupConfig)
    xy_mask: XYMaskConfig = field(default_factory=XYMaskConfig)

    def __post_init__(self) -> None:
        check_specs(self.images)


AUGMENTATIONS: dict[str, Callable[[Samples, Draws, Any], Samples]] = {
    "time_shift": shift_time,
    "background": mix_background,
    "low_pass": cut_highs,
    "equalizer": equalize,
    "mix_style": mix_style,
    "gain": change_gain,
    "noise": add_noise,
    "in_augment": paste_patches,
    "cutmix": cut_mix,
    "resize_mix": resize_mix,
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
        self,
        mel_BMT: Tensor,
        targets_BC: Tensor,
        epoch: Tensor,
        position_B: Tensor,
        background_BMT: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Augments slices float [B, M, T] in [0, 1] and targets [B, C]; inputs are unchanged.

        `epoch` int64 [] and `position_B` int64 [B] determine every number drawn. Only
        `augment.background` uses `background_BMT`, like the slices.
        """
        samples = Samples(mel_BMT, targets_BC, self._top_db, background_BMT)
        for name, augmentation, config in self._active:
            key_B = sample_keys(self._seed, name, epoch, position_B)
            samples = augmentation(samples, Draws(key_B, self._seed), config)
        return samples.mel_BMT, samples.targets_BC
