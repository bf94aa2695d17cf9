"""Partners in the reader: samples that a plan gives one from a pool."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.chunks import Chunks
from datasets.levels import Levels
from datasets.loading import quarantine
from datasets.loading.quarantine import CarefulReader
from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig
from datasets.targets import SoftSlices, Targets
from storage.errors import DamageError
from storage.objects.retry import RetryPolicy
from tests.fakes import SMALL, write_fake_source

LENGTHS = [3, 1, 8, 2, 13, 1, 5, 4, 7]
RECIPE = replace(SMALL, slice_step_s=0.25)
POOL = 4  # recording whose slices are partners


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Reads again at once: damage stays, and the tests need not wait for that."""
    monkeypatch.setattr(quarantine, "POLICY", RetryPolicy(reread_after_s=(0.0,)))


@pytest.fixture
def source(tmp_path):
    return write_fake_source(tmp_path / "cells.raw", LENGTHS, seed=1, recipe=RECIPE)


class Injecting:
    """Plans in which about half of the samples have a partner from one recording."""

    def __init__(self, source):
        self._plans = EpochPlanner(
            source.recordings(), SamplingConfig(slices_per_recording=4), seed=5
        )
        self._first = int(source.table["first_row"][POOL])

    def __call__(self, epoch):
        plan = self._plans(epoch)
        generator = np.random.default_rng(epoch)
        pool = generator.integers(-1, 2, len(plan)).astype(np.int8)
        rows = self._first + generator.integers(0, LENGTHS[POOL], len(plan))
        return replace(plan, partner_rows=np.where(pool < 0, plan.rows, rows), partner_pool=pool)


def targets_of(source):
    """Classes by recording, and a soft target for the first slice of the pool."""
    hard = np.eye(len(LENGTHS), dtype=np.float32)
    first = int(source.table["first_row"][POOL])
    soft = np.full((1, len(LENGTHS)), 0.25, np.float32)
    slices = SoftSlices(rows=np.array([first]), line=np.zeros(1, np.int32))
    return Targets(hard, [(soft, slices)])


def reader_of(source, *, ranks=(0, 1), chunks=None, **config):
    return BatchReader(
        source,
        Injecting(source),
        LoaderConfig(**{"batch_size": 6, "remainder": "wrap", **config}),
        targets=targets_of(source),
        train=True,
        chunks=chunks or Chunks(),
        levels=Levels(source),
        rank=ranks[0],
        world_size=ranks[1],
    )


@pytest.mark.parametrize("prefetch_batches", [0, 3])
def test_samples_have_the_partners_of_the_plan_with_levels_and_targets(source, prefetch_batches):
    reader = reader_of(source, prefetch_batches=prefetch_batches)
    reader.set_epoch(2)
    plan, levels, targets = Injecting(source)(2), Levels(source), targets_of(source)
    with_partner = 0
    for batch in reader:
        place = batch.position.numpy() % len(plan)
        has = plan.partner_pool[place] >= 0
        rows = plan.partner_rows[place]
        assert batch.partner_pool.tolist() == plan.partner_pool[place].tolist()
        assert np.array_equal(batch.slices.numpy(), source.read(batch.rows.numpy()))
        assert np.array_equal(batch.partner.numpy()[has], source.read(rows[has]))
        assert np.array_equal(batch.partner_levels.numpy()[has, 0], levels.of(rows[has]))
        expected = targets.of(rows, np.full(len(rows), POOL))
        assert np.array_equal(batch.partner_targets.numpy()[has], expected[has])
        assert not batch.partner_targets[~torch.from_numpy(has)].any()
        with_partner += has.sum()
    assert 12 < with_partner < 36


def test_samples_without_a_partner_cause_no_further_read(source, monkeypatch):
    read, read_rows = [], CarefulReader.read_rows

    def count(self, wanted, rows, out):
        read.append(len(rows))
        return read_rows(self, wanted, rows, out)

    monkeypatch.setattr(CarefulReader, "read_rows", count)
    partners = sum(int((batch.partner_pool >= 0).sum()) for batch in reader_of(source))
    assert sum(read) == 36 + partners


def samples(source, world_size, batch_size, **options):
    """Every tensor of each sample of an epoch, by its position."""
    found = {}
    for rank in range(world_size):
        for batch in reader_of(source, ranks=(rank, world_size), batch_size=batch_size, **options):
            for place, position in enumerate(batch.position.tolist()):
                tensors = (
                    batch.slices,
                    batch.partner,
                    batch.partner_levels,
                    batch.partner_targets,
                    batch.partner_pool,
                )
                found[position] = b"".join(one[place].numpy().tobytes() for one in tensors)
    return found


@pytest.mark.parametrize("chunks", [Chunks(), Chunks(count=2, step=2)])
def test_partners_do_not_depend_on_the_number_of_ranks(source, chunks):
    alone = samples(source, 1, 6, chunks=chunks)
    assert samples(source, 2, 3, chunks=chunks) == alone
    assert samples(source, 3, 2, chunks=chunks) == alone


def test_an_epoch_with_partners_goes_on_in_its_middle(source):
    whole = [batch.partner.numpy().tobytes() for batch in reader_of(source)]
    reader = reader_of(source)
    for _ in zip(range(2), reader, strict=False):
        pass
    again = reader_of(source)
    again.load_state_dict(reader.state_dict())
    assert [batch.partner.numpy().tobytes() for batch in again] == whole[2:]


def test_partners_are_chunks_where_samples_are(source):
    chunks = Chunks(count=2, step=2)
    plan = Injecting(source)(0)
    for batch in reader_of(source, chunks=chunks):
        assert batch.partner.shape == (6, RECIPE.n_mels, 2 * RECIPE.num_frames)
        place = batch.position.numpy() % len(plan)
        first = int(source.table["first_row"][POOL])
        for number in np.flatnonzero(plan.partner_pool[place] >= 0):
            begin = min(plan.partner_rows[place[number]], first + LENGTHS[POOL] - 3)
            pair = source.read(np.array([begin, begin + 2]))
            assert np.array_equal(batch.partner[number].numpy(), np.concatenate(pair, axis=1))
            label = batch.partner_targets[number, POOL]  # that of the second slice is the larger
            assert label == 1


def test_a_sample_whose_partner_is_bad_stays_without_one(source):
    first = int(source.table["first_row"][POOL])
    index = source.index["row"].to_numpy()
    with open(source.url, "r+b") as file:  # all of the pool
        file.seek(int(np.searchsorted(index, first)) * RECIPE.slice_bytes)
        file.write(bytes(LENGTHS[POOL] * RECIPE.slice_bytes))
    with pytest.raises(DamageError):
        list(reader_of(source))
    for batch in reader_of(source, max_bad=LENGTHS[POOL]):
        assert (batch.partner_pool == -1).all()
        assert not batch.partner_targets.any()
        assert np.array_equal(batch.slices.numpy(), source.read(batch.rows.numpy()))
