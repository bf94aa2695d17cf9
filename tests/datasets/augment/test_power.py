"""Sounds added at their true levels, and mixup in that domain, held against a plain numpy loop."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.augment.draws import Draws, Samples, partners, sample_keys
from datasets.augment.level import BackgroundMixConfig
from datasets.augment.mix import MixupConfig
from datasets.augment.pipeline import Augment, AugmentConfig
from datasets.augment.power import Sounds, add_sounds
from storage.errors import ConfigError

TOP_DB = 80.0
MELS, FRAMES, CLASSES = 6, 10, 4


def batch_of(num, seed=0):
    """Cells with their maximum 1 and some silence, targets, levels from -90 to -10 dB."""
    generator = torch.Generator().manual_seed(seed)
    mel = torch.rand(num, MELS, FRAMES, generator=generator)
    mel = (mel / mel.amax((1, 2), keepdim=True)).where(mel > 0.3, 0.0)
    targets = torch.rand(num, CLASSES, generator=generator)
    return mel, targets, -90 + 80 * torch.rand(num, generator=generator)


def plain_sum(first, second, weight):
    """Cells and level of one weighted sum in power, in double precision, cell by cell."""
    (cells, level), (other_cells, other_level) = first, second
    power = np.zeros(cells.shape)
    for place in np.ndindex(*cells.shape):
        for share, value, db in (
            (weight, cells[place], level),
            (1 - weight, other_cells[place], other_level),
        ):
            if value > 0:
                power[place] += share * 10 ** ((db + (value - 1) * TOP_DB) / 10)
    if not power.max() > 0:
        return cells, level
    with np.errstate(divide="ignore"):
        db = 10 * np.log10(power / power.max())
    return np.clip(db / TOP_DB + 1, 0, 1), 10 * np.log10(power.max())


def test_the_sum_is_that_of_a_plain_loop():
    mel, _, level = batch_of(12)
    mel[3] = 0
    other, other_level = mel.flip(0), level.flip(0)
    weight = torch.linspace(0, 1, 12)
    found, found_level = add_sounds(Sounds(mel, level), Sounds(other, other_level), weight, TOP_DB)
    for number in range(12):
        expected, expected_level = plain_sum(
            (mel[number].double().numpy(), float(level[number])),
            (other[number].double().numpy(), float(other_level[number])),
            float(weight[number]),
        )
        np.testing.assert_allclose(found[number], expected, rtol=0, atol=2e-5)
        assert float(found_level[number]) == pytest.approx(expected_level, abs=1e-3)


def test_two_equal_sounds_give_the_same_cells_and_level():
    mel, _, level = batch_of(3)
    sounds = Sounds(mel, level)
    found, found_level = add_sounds(sounds, sounds, torch.full((3,), 0.3), TOP_DB)
    torch.testing.assert_close(found, mel, rtol=0, atol=1e-5)
    torch.testing.assert_close(found_level, level)


def test_a_quiet_call_in_a_loud_soundscape_stays_as_far_below_it_as_it_was():
    """Calls of one cell each, at -50 and -10 dB: the quiet one is 40 dB below the other."""
    quiet, loud = torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)
    quiet[0, 0, 0] = loud[0, 1, 1] = 1
    first = Sounds(quiet, torch.tensor([-50.0]))
    second = Sounds(loud, torch.tensor([-10.0]))
    found, level = add_sounds(first, second, torch.tensor([0.5]), TOP_DB)
    torch.testing.assert_close(found[0], torch.tensor([[0.5, 0.0], [0.0, 1.0]]))
    assert float(level) == pytest.approx(-10 - 3.0103, abs=1e-3)


def test_two_silent_slices_stay_silent():
    silent = Sounds(torch.zeros(2, 3, 4), torch.full((2,), -100.0))
    found, level = add_sounds(silent, silent, torch.full((2,), 0.5), TOP_DB)
    assert not found.any()
    assert torch.equal(level, silent.level_B)


def mixed(config, batch, seed=3):
    """Samples after mixup, and the weights and partners that it has drawn."""
    mel, targets, level = batch
    key = sample_keys(seed, "mixup", torch.tensor(1), torch.arange(len(mel)))
    draws = Draws(key, seed)
    samples = config.apply(Samples(mel, targets, TOP_DB, level_B=level), draws)
    chosen, _, pairing = draws.uniform(3).unbind(1)
    return samples, chosen < config.p, partners(pairing)


def test_mixup_in_power_adds_the_partner_at_its_true_level():
    batch = mel, targets, level = batch_of(40)
    config = MixupConfig(p=0.6, domain="power", weight="constant", constant=0.3)
    samples, chosen, partner = mixed(config, batch)
    assert 15 < chosen.sum() < 35
    for number, other in enumerate(partner.tolist()):
        expected = mel[number].double().numpy(), float(level[number])
        if chosen[number]:
            expected = plain_sum(
                expected, (mel[other].double().numpy(), float(level[other])), 1 - config.constant
            )
            own = 0.7 * targets[number] + 0.3 * targets[other]
            torch.testing.assert_close(samples.targets_BC[number], own)
        else:
            assert torch.equal(samples.mel_BMT[number], mel[number])
            assert torch.equal(samples.targets_BC[number], targets[number])
        np.testing.assert_allclose(samples.mel_BMT[number], expected[0], rtol=0, atol=2e-5)
        assert float(samples.level_B[number]) == pytest.approx(expected[1], abs=1e-3)


def test_targets_are_united_always_or_above_a_smaller_weight():
    batch = _, targets, _ = batch_of(200)
    targets[5, 2] = torch.nan
    by_weight, _, _ = mixed(MixupConfig(p=0.7, alpha=1.0), batch)
    union, chosen, partner = mixed(MixupConfig(p=0.7, alpha=1.0, targets="union"), batch)
    config = MixupConfig(p=0.7, alpha=1.0, targets="union_above", threshold=0.3)
    above, _, _ = mixed(config, batch)
    united = targets.maximum(targets[partner])
    close = {"rtol": 0, "atol": 0, "equal_nan": True}
    torch.testing.assert_close(union.targets_BC[chosen], united[chosen], **close)
    torch.testing.assert_close(union.targets_BC[~chosen], targets[~chosen], **close)
    assert union.targets_BC[5, 2].isnan()
    torch.testing.assert_close(union.mel_BMT, by_weight.mel_BMT, **close)
    is_united = (above.targets_BC == union.targets_BC).all(1)
    is_weighted = (above.targets_BC == by_weight.targets_BC).all(1)
    known = ~targets.isnan().any(1) & ~targets[partner].isnan().any(1)
    assert (is_united | is_weighted)[known].all()
    share = (is_united & chosen).sum() / chosen.sum()
    assert share == pytest.approx(0.4, abs=0.12)  # the smaller weight is uniform up to 0.5


def test_mixup_in_db_is_to_the_bit_the_one_it_was():
    batch = mel, targets, level = batch_of(50)
    config = MixupConfig(p=0.8)
    found, chosen, partner = mixed(config, batch)
    alone, _, _ = mixed(config, (mel, targets, None))
    assert torch.equal(found.mel_BMT, alone.mel_BMT)
    assert torch.equal(found.targets_BC, alone.targets_BC)
    assert alone.level_B is None
    key = sample_keys(3, "mixup", torch.tensor(1), torch.arange(50))
    table = np.random.default_rng(0).beta(0.4, 0.4, 65_536).astype(np.float32)
    weight = torch.from_numpy(table)[(Draws(key, 3).uniform(3)[:, 1] * 65_536).long()]
    weight = weight.maximum(1 - weight).where(chosen, 1.0)
    expected = mel[partner].lerp(mel, weight[:, None, None])
    assert torch.equal(found.mel_BMT, expected)
    shared = targets * (weight[:, None]) + targets[partner] * (1 - weight[:, None])
    torch.testing.assert_close(found.targets_BC, shared)
    torch.testing.assert_close(found.level_B, level * weight + level[partner] * (1 - weight))


def test_the_level_of_a_mixture_with_a_background_is_that_of_its_maximum():
    mel, targets, level = batch_of(20)
    behind, _, _ = batch_of(20, seed=1)
    config = BackgroundMixConfig(p=0.5, min_snr_db=-10, max_snr_db=-10)
    key = sample_keys(0, "background", torch.tensor(0), torch.arange(20))
    samples = Samples(mel, targets, TOP_DB, behind, level)
    found = config.apply(samples, Draws(key, 0))
    without = config.apply(samples._replace(level_B=None), Draws(key, 0))
    assert torch.equal(found.mel_BMT, without.mel_BMT)
    chosen = Draws(key, 0).uniform(2)[:, 0] < 0.5
    assert torch.equal(found.level_B[~chosen], level[~chosen])
    power, noise = (10 ** ((one.double() - 1) * 8) for one in (mel, behind))
    ratio = power.mean((1, 2)) / noise.mean((1, 2)) * 10
    peak_db = 10 * (power + ratio[:, None, None] * noise).amax((1, 2)).log10()
    torch.testing.assert_close(found.level_B[chosen], (level + peak_db).float()[chosen])


def test_augmenting_in_power_depends_on_position_alone_and_leaves_its_input():
    mel, targets, level = batch_of(8)
    config = AugmentConfig(mixup=MixupConfig(p=1.0, domain="power"))
    augment = Augment(config, seed=0, top_db=TOP_DB)
    before = mel.clone()
    rest = torch.tensor(3), torch.arange(100, 108)
    first, _ = augment(mel, targets, *rest, None, level)
    assert torch.equal(first, augment(mel, targets, *rest, None, level)[0])
    assert torch.equal(mel, before)
    torch.testing.assert_close(first.amax((1, 2)), torch.ones(8))
    assert not torch.equal(first, augment(mel, targets, *rest, None, level.flip(0))[0])


def test_power_without_levels_is_refused():
    mel, targets, _ = batch_of(4)
    config = AugmentConfig(mixup=MixupConfig(p=1.0, domain="power"))
    with pytest.raises(ConfigError, match=r"augment\.mixup\.domain=power needs the levels"):
        Augment(config, seed=0, top_db=TOP_DB)(mel, targets, torch.tensor(0), torch.arange(4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domain": "waveform"}, r"mixup\.domain=waveform is none of db, power"),
        ({"weight": "even"}, r"mixup\.weight=even is none of beta, constant"),
        ({"targets": "max"}, r"mixup\.targets=max is none of weight, union, union_above"),
        ({"constant": 1.5}, r"mixup\.constant=1.5 must lie between 0 and 1"),
        ({"threshold": -1.0}, r"mixup\.threshold=-1.* must lie between"),
    ],
)
def test_impossible_values_are_refused_by_name(options, message):
    with pytest.raises(ConfigError, match=message):
        replace(AugmentConfig(), mixup=MixupConfig(**options))
