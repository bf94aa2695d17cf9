"""Augmentations: their effects, their invariants, and the inputs that determine them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets.augment.draws import Draws, sample_keys
from datasets.augment.level import (
    BackgroundMixConfig,
    EqualizerConfig,
    GainConfig,
    LowPassConfig,
    NoiseConfig,
)
from datasets.augment.pipeline import AUGMENTATIONS, Augment, AugmentConfig
from datasets.augment.place import InAugmentConfig, TimeShiftConfig, XYMaskConfig
from storage.errors import ConfigError

CLASSES = {name: type(getattr(AugmentConfig(), name)) for name in AUGMENTATIONS}
MIXING = ("cutmix", "resize_mix", "mixup")  # cells and targets
WITH_PARTNER = (*MIXING, "mix_style")
TOP_DB = 80.0


def config_of(*names, p=1.0):
    """A config in which only these augmentations act."""
    return AugmentConfig(**{name: CLASSES[name](p=p) for name in names})


def samples(num, *, mels=16, frames=24, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    slices = torch.rand(num, mels, frames, generator=generator)
    targets = torch.rand(num, classes, generator=generator).softmax(1)
    return slices, targets, torch.tensor(3), torch.arange(100, 100 + num)


def backgrounds(batch):
    """Builds a background for each sample, equal for equal positions in any batch."""
    behind = [
        torch.rand(batch[0].shape[1:], generator=torch.Generator().manual_seed(position))
        for position in batch[3].tolist()
    ]
    return torch.stack(behind)


def run(config, batch, seed=0):
    return Augment(config, seed=seed, top_db=TOP_DB)(*batch, backgrounds(batch))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_probability_zero_changes_no_bit(name):
    batch = samples(8)
    slices, targets = run(config_of(name, p=0.0), batch)
    assert torch.equal(slices, batch[0])
    assert torch.equal(targets, batch[1])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_samples_that_are_not_chosen_stay_as_they_are_to_the_bit(name):
    batch = samples(400)
    slices, targets = run(config_of(name, p=0.25), batch)
    same = (slices == batch[0]).flatten(1).all(1) & (targets == batch[1]).all(1)
    assert 0.65 < same.float().mean() < 0.85


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_probability_one_changes_nearly_all_slices(name):
    batch = samples(200)
    slices, _ = run(config_of(name), batch)
    changed = (slices != batch[0]).flatten(1).any(1)
    assert changed.float().mean() > 0.9


@given(
    names=st.sets(st.sampled_from(AUGMENTATIONS)),
    num=st.integers(1, 9),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 30)),
    seed=st.integers(0, 2**62),
)
def test_shape_range_and_label_mass_are_kept(names, num, shape, seed):
    batch = samples(num, mels=shape[0], frames=shape[1], seed=num)
    before = [tensor.clone() for tensor in batch]
    slices, targets = run(config_of(*names, p=0.7), batch, seed=seed)
    assert slices.shape == batch[0].shape
    assert slices.dtype == torch.float32
    assert slices.min() >= 0
    assert slices.max() <= 1
    assert targets.min() >= 0
    assert targets.max() <= 1
    torch.testing.assert_close(targets.sum(1), batch[1].sum(1))
    assert all(torch.equal(*pair) for pair in zip(batch, before, strict=True))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_equal_seed_epoch_and_positions_give_equal_samples_others_do_not(name):
    slices, targets, epoch, position = samples(8)
    first = run(config_of(name), (slices, targets, epoch, position))[0]
    torch.rand(7)  # the global generator has no part in it
    assert torch.equal(run(config_of(name), (slices, targets, epoch, position))[0], first)
    assert not torch.equal(run(config_of(name), (slices, targets, epoch + 1, position))[0], first)
    assert not torch.equal(run(config_of(name), (slices, targets, epoch, position + 8))[0], first)
    assert not torch.equal(
        run(config_of(name), (slices, targets, epoch, position), seed=1)[0], first
    )


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name not in WITH_PARTNER])
def test_a_sample_is_augmented_alike_in_any_batch(name):
    slices, targets, epoch, position = samples(8)
    together = run(config_of(name), (slices, targets, epoch, position))[0]
    turned = torch.tensor([5, 2, 7])
    apart = run(config_of(name), (slices[turned], targets[turned], epoch, position[turned]))[0]
    assert torch.equal(apart, together[turned])


def test_turning_one_augmentation_on_leaves_the_numbers_of_another():
    batch = samples(8)
    with_silent_gain = AugmentConfig(
        gain=GainConfig(p=1.0, max_db=0.0), time_shift=TimeShiftConfig(p=1.0)
    )
    assert torch.equal(run(with_silent_gain, batch)[0], run(config_of("time_shift"), batch)[0])


def test_time_shift_rotates_and_reaches_every_shift():
    frames = 6
    ramp = torch.arange(frames).float() / frames
    slices = ramp.expand(600, 2, frames)
    shifted, _ = run(config_of("time_shift"), (slices, torch.ones(600, 1), *samples(600)[2:]))
    assert torch.equal(shifted.sort(2).values, slices)
    start = (shifted[:, 0, 0] * frames).round().long()
    assert torch.equal(shifted[:, 0, 1], ramp[(start + 1) % frames])
    assert set(start.tolist()) == set(range(frames))


def test_time_shift_stays_within_its_largest_fraction():
    slices = torch.zeros(300, 1, 20)
    slices[:, :, 0] = 1
    config = AugmentConfig(time_shift=TimeShiftConfig(p=1.0, max_fraction=0.25))
    shifted, _ = run(config, (slices, torch.ones(300, 1), *samples(300)[2:]))
    assert set(shifted.argmax(2).flatten().tolist()) == set(range(1, 6))


def power(mel):
    """Relative to the slice maximum, in double precision."""
    return 10 ** ((mel.double() - 1) * TOP_DB / 10)


def test_background_is_added_in_power_at_a_ratio_within_its_range():
    """The part of the result that is background is found again by least squares."""
    batch = samples(300)
    behind = backgrounds(batch)
    config = AugmentConfig(background=BackgroundMixConfig(p=1.0, min_snr_db=3, max_snr_db=9))
    mixed, targets = Augment(config, seed=0, top_db=TOP_DB)(*batch, behind)
    assert torch.equal(targets, batch[1])
    snr_db = []
    for result, own, other in zip(mixed, batch[0], behind, strict=True):
        parts = torch.stack([power(own).flatten(), power(other).flatten()], 1)
        weights = torch.linalg.lstsq(parts, power(result).flatten()[:, None]).solution.flatten()
        means = parts.mean(0) * weights
        snr_db.append(10 * torch.log10(means[0] / means[1]))
        rebuilt = parts @ weights
        assert torch.allclose(rebuilt, power(result).flatten(), rtol=1e-3, atol=1e-6)
    snr_db = torch.stack(snr_db)
    assert 2.99 < snr_db.min() < 3.2
    assert 8.8 < snr_db.max() < 9.01
    torch.testing.assert_close(mixed.amax((1, 2)), torch.ones(300))


def test_silence_behind_a_sample_or_a_silent_sample_changes_nothing():
    slices, targets, epoch, position = samples(6)
    slices[:3] = 0
    behind = backgrounds((slices, targets, epoch, position))
    behind[3:] = 0
    augment = Augment(config_of("background"), seed=0, top_db=TOP_DB)
    mixed, _ = augment(slices, targets, epoch, position, behind)
    assert torch.equal(mixed, slices)


def test_without_backgrounds_they_cannot_be_mixed_in():
    with pytest.raises(ConfigError, match=r"background\.store="):
        Augment(config_of("background"), seed=0, top_db=TOP_DB)(*samples(2))


def test_gain_adds_one_number_of_up_to_max_db_to_a_slice():
    batch = (torch.full((500, 4, 4), 0.5), torch.ones(500, 1), *samples(500)[2:])
    config = AugmentConfig(gain=GainConfig(p=1.0, max_db=8.0))
    change_db = (run(config, batch)[0] - 0.5) * TOP_DB
    assert torch.equal(change_db, change_db[:, :1, :1].expand_as(change_db))
    assert 7.5 < change_db.max() <= 8
    assert -8 <= change_db.min() < -7.5


def test_noise_is_normal_with_deviations_of_up_to_max_db():
    batch = (torch.full((300, 32, 32), 0.5), torch.ones(300, 1), *samples(300)[2:])
    config = AugmentConfig(noise=NoiseConfig(p=1.0, max_db=4.0))
    noise_db = (run(config, batch)[0] - 0.5) * TOP_DB
    deviation = noise_db.flatten(1).std(1)
    assert deviation.max() == pytest.approx(4.0, rel=0.1)
    assert deviation.min() < 0.2
    assert (noise_db.flatten(1).mean(1) / deviation).abs().max() < 5 / 32
    scaled = (noise_db / deviation[:, None, None]).flatten()
    assert (scaled**4).mean() == pytest.approx(3, rel=0.05)  # kurtosis


def test_patches_come_from_the_same_slice_and_keep_about_their_pitch():
    num, mels, frames = 300, 20, 30
    place_MT = torch.arange(mels)[:, None] / 100 + torch.arange(frames) / 10_000
    slices = place_MT.expand(num, mels, frames).float() + 0.2
    config = AugmentConfig(
        in_augment=InAugmentConfig(p=1.0, patches=1, max_db=0.0, max_mel_shift=0.15)
    )
    pasted, targets = run(config, (slices, torch.eye(num), *samples(num)[2:]))
    assert torch.equal(targets, torch.eye(num))
    assert set(pasted.flatten().tolist()) <= set(slices.flatten().tolist())
    moved_mel = ((pasted - 0.2) * 100).floor() - torch.arange(mels)[:, None]
    assert moved_mel.abs().max() == 3
    changed = pasted != slices
    assert changed.any(2).sum(1).max() <= 8  # 0.4 of the bands
    steps = (((pasted - 0.2) * 10_000).round() % 100).diff(dim=2)[changed[:, :, 1:]]
    assert {1.0, -1.0} <= set(steps.tolist())  # some are turned around


def test_low_pass_lowers_bands_above_a_cutoff_by_its_slope():
    num, mels = 400, 51
    batch = (torch.ones(num, mels, 2), torch.ones(num, 1), *samples(num)[2:])
    config = AugmentConfig(low_pass=LowPassConfig(p=1.0, min_fraction=0.4, slope_db=8.0))
    fall_db = (1 - run(config, batch)[0][:, :, 0]) * TOP_DB
    assert (fall_db[:, : int(0.4 * mels)].abs() < 1e-4).all()
    assert fall_db[:, -1].max() == pytest.approx(8.0 * 6, rel=0.05)
    step = fall_db.diff(dim=1)
    assert step.min() > -1e-4
    assert step.max() == pytest.approx(8.0 * 10 / (mels - 1), rel=1e-3)


def test_low_pass_leaves_the_loudest_cell_that_remains_at_the_top():
    slices = torch.full((50, 20, 3), 0.3)
    slices[:, -1] = 1.0  # all above any cutoff
    slices[:, 0] = 0.9
    filtered, _ = run(config_of("low_pass"), (slices, torch.ones(50, 1), *samples(50)[2:]))
    torch.testing.assert_close(filtered.amax((1, 2)), torch.ones(50))


def test_the_equalizer_adds_lines_between_points_and_keeps_the_maximum():
    num, mels, points = 400, 31, 4
    slices = torch.full((num, mels, 3), 0.6)
    config = AugmentConfig(equalizer=EqualizerConfig(p=1.0, max_db=8.0, points=points))
    equalized, _ = run(config, (slices, torch.ones(num, 1), *samples(num)[2:]))
    torch.testing.assert_close(equalized.amax((1, 2)), torch.full((num,), 0.6))
    curve_db = (equalized[:, :, 0] - 0.6) * TOP_DB
    bends = curve_db.diff(n=2, dim=1).abs() > 1e-3
    places = set(bends.any(0).nonzero().flatten().tolist())
    assert places == {9, 19}  # bands 10 and 20, the two points between the ends
    assert -16.0 <= curve_db.min() < -12.0
    assert torch.equal(equalized[:, :, 0], equalized[:, :, 2])


def test_masks_are_bars_of_bounded_size_filled_with_one_value():
    num, mels, frames = 300, 20, 40
    batch = (torch.full((num, mels, frames), 0.5), torch.ones(num, 1), *samples(num)[2:])
    bars = {"time_masks": 1, "mel_masks": 1, "time_max_fraction": 0.25, "mel_max_fraction": 0.5}
    config = AugmentConfig(xy_mask=XYMaskConfig(p=1.0, fill=0.125, **bars))
    masked = run(config, batch)[0] == 0.125
    over_time, over_mels = masked.all(1), masked.all(2)
    assert torch.equal(masked, over_time[:, None, :] | over_mels[:, :, None])
    for bars, largest in ((over_time, 0.25 * frames), (over_mels, 0.5 * mels)):
        edges = bars.float().diff(dim=1).abs().sum(1)
        assert edges.max() <= 2  # one bar
        widths = bars.sum(1)
        assert widths.max() in (largest - 1, largest, largest + 1)
        covered = bars.float().mean(0)
        assert covered.min() > 0  # it can be anywhere


def test_uniform_numbers_are_uniform_and_independent():
    key = sample_keys(7, "gain", torch.tensor(0), torch.arange(4096))
    numbers = Draws(key, 7).uniform(4).double()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = torch.histc(numbers.float(), 64, 0, 1)
    assert ((counts - 256) ** 2 / 256).sum() < 120  # chi-squared with 63 degrees of freedom
    neighbours = torch.cat([numbers[:-1], numbers[1:]], dim=1)
    correlation = torch.corrcoef(neighbours.T) - torch.eye(8)
    assert correlation.abs().max() < 0.08
    assert torch.equal(Draws(key, 7).uniform(2), Draws(key, 7).uniform(4)[:, :2])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gain", {"p": 1.5}, "p=1.5 must lie between 0 and 1"),
        ("noise", {"max_db": -1}, "max_db=-1 must be at least 0"),
        (
            "background",
            {"min_snr_db": 9.0, "max_snr_db": 3.0},
            "min_snr_db=9.0 is more than .*max_snr_db=3.0",
        ),
        ("mixup", {"alpha": 0}, "alpha=0 must be positive"),
        ("mix_style", {"alpha": -1}, "alpha=-1 must be positive"),
        ("xy_mask", {"time_masks": -1}, "time_masks"),
        ("time_shift", {"max_fraction": 2}, "max_fraction"),
        ("low_pass", {"slope_db": -1}, "slope_db=-1 must be at least 0"),
        ("equalizer", {"points": 1}, "points=1 must be at least 2"),
        ("cutmix", {"max_fraction": 1.1}, "max_fraction"),
        ("resize_mix", {"min_side": 0.9}, "min_side=0.9 is more than"),
        ("in_augment", {"patches": 0}, "patches=0"),
        ("in_augment", {"min_fraction": 0.5}, "min_fraction=0.5 is"),
    ],
)
def test_impossible_values_are_refused_by_name(name, options, message):
    with pytest.raises(ConfigError, match=rf"augment\.{name}\.{message}"):
        AugmentConfig(**{name: CLASSES[name](**options)})
