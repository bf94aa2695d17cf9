"""datasets.augment.inject: samples of a batch, and the partners of pools added to them."""

import numpy as np
import pytest
import torch

from datasets.augment.inject import mixed_targets, prepare
from datasets.augment.power import Sounds, add_sounds
from datasets.batch import Batch
from datasets.injection import InjectSpec

TOP_DB = 80.0
MELS, FRAMES = 4, 6
SPECS = (
    InjectSpec(source="labelled", p=0.2, ratio=0.25, targets="union", cap_sum=0.5),
    InjectSpec(source="pool", p=0.6, ratio=0.5, targets="weight"),
)


def batch_of(pool, *, slices=1, seed=0):
    """A batch of uint8 cells whose samples have partners of these pools."""
    generator = np.random.default_rng(seed)
    num, shape = len(pool), (len(pool), MELS, slices * FRAMES)
    cells = [torch.from_numpy(generator.integers(0, 256, shape, np.uint8)) for _ in range(2)]
    targets = [torch.from_numpy(generator.random((num, 3), np.float32)) for _ in range(2)]
    levels = [torch.from_numpy(generator.uniform(-60, -10, (num, slices))) for _ in range(2)]
    return Batch(
        slices=cells[0],
        targets=targets[0],
        rows=torch.arange(num),
        recording_no=torch.arange(num),
        position=torch.arange(num),
        epoch=torch.tensor(0),
        levels=levels[0].float(),
        partner=cells[1],
        partner_levels=levels[1].float(),
        partner_targets=targets[1],
        partner_pool=torch.tensor(pool),
    )


def test_targets_of_two_samples_by_hand():
    """A partner of a sum of 1 is capped to 0.5 and united; another is mixed by its ratio."""
    own = torch.tensor([[1.0, 0.0, 0.1], [1.0, 0.0, 0.5], [0.3, 0.3, 0.3]])
    partner = torch.tensor([[0.2, 0.6, 0.2], [0.0, 1.0, 0.5], [1.0, 1.0, 1.0]])
    found = mixed_targets(own, partner, torch.tensor([0, 1, -1]), SPECS)
    expected = torch.tensor([[1.0, 0.3, 0.1], [0.5, 0.5, 0.5], [0.3, 0.3, 0.3]])
    torch.testing.assert_close(found, expected)
    assert torch.equal(found[2], own[2])


def test_a_sum_below_the_cap_stays_and_what_is_unknown_is_so_in_the_mixture():
    own = torch.tensor([[torch.nan, 0.0, 0.0], [0.0, 0.0, 0.0]])
    partner = torch.tensor([[0.1, 0.2, 0.1], [torch.nan, 0.8, 0.2]])
    found = mixed_targets(own, partner, torch.tensor([0, 0]), SPECS)
    expected = torch.tensor([[torch.nan, 0.2, 0.1], [torch.nan, 0.4, 0.1]])
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_partners_are_added_at_their_levels_and_ratio_of_the_pool():
    batch = batch_of([0, 1, -1, 0])
    samples = prepare(batch, TOP_DB, SPECS)
    own, other = batch.slices / 255, batch.partner / 255
    weight = torch.tensor([0.75, 0.5, 1.0, 0.75])
    expected, level = add_sounds(
        Sounds(own, batch.levels[:, 0]), Sounds(other, batch.partner_levels[:, 0]), weight, TOP_DB
    )
    with_partner = [0, 1, 3]
    torch.testing.assert_close(samples.mel_BMT[with_partner], expected[with_partner])
    torch.testing.assert_close(samples.level_B[with_partner], level[with_partner])
    assert torch.equal(samples.mel_BMT[2], own[2])  # to the bit
    assert samples.level_B[2] == batch.levels[2, 0]
    assert torch.equal(samples.targets_BC[2], batch.targets[2])


def test_cells_of_samples_without_a_partner_may_be_anything():
    batch = batch_of([-1, -1])
    strange = batch._replace(
        partner=torch.full((2, MELS, FRAMES), torch.nan),
        partner_levels=torch.full((2, 1), -torch.inf),
    )
    samples = prepare(strange, TOP_DB, SPECS)
    assert torch.equal(samples.mel_BMT, batch.slices / 255)
    assert torch.equal(samples.level_B, batch.levels[:, 0])


def test_chunks_are_joined_before_their_partners_are_added():
    batch = batch_of([1, 1], slices=2)
    samples = prepare(batch, TOP_DB, SPECS)

    def joined(cells, levels):
        drop = (levels - levels.amax(1, keepdim=True)) / TOP_DB
        return (cells / 255 + drop.repeat_interleave(FRAMES, 1)[:, None]).clamp(0, 1)

    expected, level = add_sounds(
        Sounds(joined(batch.slices, batch.levels), batch.levels.amax(1)),
        Sounds(joined(batch.partner, batch.partner_levels), batch.partner_levels.amax(1)),
        torch.full((2,), 0.5),
        TOP_DB,
    )
    torch.testing.assert_close(samples.mel_BMT, expected)
    torch.testing.assert_close(samples.level_B, level)


def test_without_injection_a_batch_is_its_cells_and_targets():
    plain = batch_of([0, 1])._replace(
        levels=None, partner=None, partner_levels=None, partner_targets=None, partner_pool=None
    )
    samples = prepare(plain, TOP_DB)
    assert torch.equal(samples.mel_BMT, plain.slices / 255)
    assert samples.level_B is None
    assert samples.background_BMT is None
    assert torch.equal(prepare(plain, TOP_DB, SPECS).mel_BMT, samples.mel_BMT)
    given = batch_of([0, 1])  # held out: partners do not count
    assert torch.equal(prepare(given, TOP_DB).mel_BMT, given.slices / 255)


def test_batches_that_lack_something_are_refused():
    batch = batch_of([0, 1])
    with pytest.raises(ValueError, match="without targets"):
        prepare(batch._replace(targets=None), TOP_DB)
    with pytest.raises(ValueError, match="partners are added with levels"):
        prepare(batch._replace(levels=None), TOP_DB, SPECS)
