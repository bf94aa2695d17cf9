"""datasets.augment.mix: what is mixed of two samples, cells and targets alike."""

import numpy as np
import pytest
import torch

from datasets.augment.mix import CutMixConfig, ResizeMixConfig
from datasets.augment.pipeline import AugmentConfig
from tests.datasets.augment.test_augment import CLASSES, MIXING, config_of, run, samples


def test_mixup_weighs_slices_and_targets_alike_and_never_mixes_a_sample_with_itself():
    num = 64
    slices = torch.eye(num)[:, :, None].expand(num, num, 2)  # sample i is one at mel band i
    mixed, targets = run(config_of("mixup"), (slices, torch.eye(num), *samples(num)[2:]))
    torch.testing.assert_close(mixed[:, :, 0], targets)
    own = targets.diagonal()
    assert own.min() >= 0.5
    others = targets - torch.diag(own)
    torch.testing.assert_close(others.sum(1), 1 - own)
    assert ((others > 0).sum(0) <= 1).all()  # each is the partner of one other


def test_mix_style_moves_mean_and_spread_of_each_band_to_weighted_means_of_two():
    num, mels = 200, 6
    generator = torch.Generator().manual_seed(2)
    level = 0.4 + 0.2 * torch.rand(num, mels, 1, generator=generator)
    spread = 0.02 + 0.05 * torch.rand(num, mels, 1, generator=generator)
    wave = torch.rand(num, mels, 30, generator=generator)
    wave = (wave - wave.mean(2, keepdim=True)) / wave.std(2, correction=0, keepdim=True)
    slices = level + spread * wave
    styled, targets = run(config_of("mix_style"), (slices, torch.eye(num), *samples(num)[2:]))
    assert torch.equal(targets, torch.eye(num))
    means = styled.mean(2, keepdim=True)
    spreads = styled.std(2, correction=0, keepdim=True)
    torch.testing.assert_close((styled - means) / spreads, wave, atol=1e-3, rtol=1e-3)
    style = torch.cat([level, spread], dim=1)[:, :, 0].double()  # one line per sample
    found = torch.cat([means, spreads], dim=1)[:, :, 0].double()
    seen = set()
    for own, result in zip(style, found, strict=True):
        towards = style - own  # the result is on the line to its partner
        share = (towards @ (result - own)) / towards.square().sum(1).clamp(min=1e-12)
        off = (own + share[:, None] * towards - result).abs().amax(1)
        partner = int(off.argmin())
        assert off[partner] < 1e-5
        seen.add((partner, round(float(share[partner]), 3)))
    shares = np.array([share for _, share in seen])
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert 0.3 < (shares > 0.5).mean() < 0.7  # the partner's style may weigh more


def test_mix_style_leaves_alone_what_is_silent_and_what_would_take_over_silence():
    slices, targets, epoch, position = samples(8)
    slices[1:] = 0
    styled, _ = run(config_of("mix_style"), (slices, targets, epoch, position))
    assert torch.equal(styled, slices)


@pytest.mark.parametrize("name", ["mixup", "mix_style"])
def test_weights_follow_the_beta_distribution(name):
    """In batches of two, each sample's partner is the other."""
    num, alpha = 3000, 0.4
    level = torch.tensor([0.25, 0.75]).repeat(num // 2)
    slices = level[:, None, None].expand(num, 1, 2)
    config = AugmentConfig(**{name: CLASSES[name](p=1.0, alpha=alpha)})
    moved = []
    for start in range(0, num, 2):
        pair = slice(start, start + 2)
        batch = (slices[pair], torch.ones(2, 1), torch.tensor(0), torch.arange(start, start + 2))
        moved.append((run(config, batch)[0][:, 0, 0] - level[pair]).abs() * 2)
    expected = np.random.default_rng(1).beta(alpha, alpha, 100_000)
    if name == "mixup":
        expected = np.minimum(expected, 1 - expected)
    quantiles = np.linspace(0.1, 0.9, 5)
    np.testing.assert_allclose(
        np.quantile(torch.cat(moved).numpy(), quantiles),
        np.quantile(expected, quantiles),
        atol=0.025 if name == "mixup" else 0.04,
    )


@pytest.mark.parametrize("name", ["cutmix", "mixup", "mix_style"])
def test_a_lone_sample_has_nobody_to_mix_with(name):
    slices, targets, epoch, position = samples(1)
    mixed, mixed_targets = run(config_of(name), (slices, targets, epoch, position))
    torch.testing.assert_close(mixed, slices)
    torch.testing.assert_close(mixed_targets, targets)


@pytest.mark.parametrize("name", ["cutmix", "resize_mix"])
def test_the_share_of_the_partner_in_the_targets_is_its_share_of_the_cells(name):
    num, mels, frames = 200, 10, 20
    cells = torch.arange(num).float() / num  # sample i is i / num all over
    slices = cells[:, None, None].expand(num, mels, frames)
    mixed, targets = run(config_of(name), (slices, torch.eye(num), *samples(num)[2:]))
    own = (mixed == slices).flatten(1).float().mean(1)
    torch.testing.assert_close(targets.diagonal(), own)
    others = targets - torch.diag(targets.diagonal())
    torch.testing.assert_close(mixed.flatten(1).mean(1), targets @ cells)
    assert ((others > 0).sum(1) <= 1).all()


@pytest.mark.parametrize("name", MIXING)
def test_a_class_that_is_not_known_in_one_of_two_is_not_known_in_their_mixture(name):
    """And in no other: a sample that is not chosen keeps its own."""
    batch = samples(60)
    unknown = torch.rand(batch[1].shape, generator=torch.Generator().manual_seed(1)) < 0.3
    masked = batch[1].masked_fill(unknown, torch.nan)
    slices, targets = run(config_of(name, p=0.5), (batch[0], masked, *batch[2:]))
    plain_slices, plain = run(config_of(name, p=0.5), batch)
    assert torch.equal(slices, plain_slices)
    kept = (slices == batch[0]).flatten(1).all(1)
    assert 0 < kept.sum() < len(kept)
    assert torch.equal(targets[kept].isnan(), unknown[kept])
    assert (targets.isnan() >= unknown).all()
    assert torch.equal(targets[~targets.isnan()], plain[~targets.isnan()])
    more = targets[~kept].isnan().sum(1) > unknown[~kept].sum(1)
    assert more.float().mean() > 0.5


def test_cutmix_takes_one_stretch_of_time_from_where_it_was():
    num, frames = 300, 40
    slices = torch.rand(num, 3, frames)
    config = AugmentConfig(cutmix=CutMixConfig(p=1.0, max_fraction=0.3))
    mixed, targets = run(config, (slices, torch.eye(num), *samples(num)[2:]))
    partner = (targets - torch.diag(targets.diagonal())).argmax(1)
    foreign = (mixed != slices).any(1)
    assert torch.equal(mixed, torch.where(foreign[:, None], slices[partner], slices))
    assert (foreign.float().diff(dim=1).abs().sum(1) <= 2).all()
    assert foreign.sum(1).max() == 12
    assert foreign.float().mean(0).min() > 0


def test_resize_mix_shows_the_whole_partner_made_smaller():
    num, mels, frames = 200, 20, 40
    ramp_MT = torch.linspace(0.5, 1, mels)[:, None] * torch.linspace(0.5, 1, frames)
    slices = ramp_MT.expand(num, -1, -1) * 1.0
    slices[::2] = 0  # sees a ramp where its partner is one
    config = AugmentConfig(resize_mix=ResizeMixConfig(p=1.0, min_side=0.5, max_side=0.5))
    mixed, _ = run(config, (slices, torch.ones(num, 1), *samples(num)[2:]))
    seen = [sample for sample in mixed[::2] if sample.any()]
    assert len(seen) > 20
    for sample in seen:
        inside_M, inside_T = sample.any(1), sample.any(0)
        assert (inside_M.sum(), inside_T.sum()) == (mels // 2, frames // 2)
        small = sample[inside_M][:, inside_T]
        torch.testing.assert_close(small, ramp_MT[1::2, 1::2])
