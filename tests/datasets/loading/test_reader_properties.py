"""reader for any sizes, ranks, batches and seeds: who sees what, before and after."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig, plan_all
from tests.fakes import write_fake_source

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=12)
SEEDS = st.integers(0, 2**31)
CHOICES = st.sampled_from(
    [
        SamplingConfig(slice_choice="all"),
        SamplingConfig(slices_per_recording=3, balance="sqrt"),
        SamplingConfig(slices_per_recording=5, order="block", block_rows=8, blocks_together=2),
    ]
)


def factors(effective):
    """All (world size, batch size, accumulation) of an effective batch."""
    return [
        (world_size, batch_size, effective // world_size // batch_size)
        for world_size in range(1, effective + 1)
        for batch_size in range(1, effective + 1)
        if effective % (world_size * batch_size) == 0
    ]


@st.composite
def two_settings(draw):
    """Two settings of one effective batch."""
    pair = st.sampled_from(factors(draw(st.integers(1, 12))))
    return draw(pair), draw(pair)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """A source of recordings of these lengths."""
    folder = tmp_path_factory.mktemp("properties")
    return lambda lengths: write_fake_source(folder / "cells.raw", lengths, seed=1)


def readers(source, setting, sampling, seed, **config):
    """The readers of all ranks; `setting` is world size, batch size and accumulation."""
    world_size, batch_size, accumulation = setting
    return [
        BatchReader(
            source,
            EpochPlanner(source.recordings(), sampling, seed=seed),
            LoaderConfig(**{"batch_size": batch_size, "remainder": "wrap", **config}),
            targets=None,
            train=True,
            rank=rank,
            world_size=world_size,
            accumulation=accumulation,
        )
        for rank in range(world_size)
    ]


def rows_of(batches):
    return [batch.rows.tolist() for batch in batches]


def steps(ranks, accumulation):
    """The samples of each optimizer step, over all ranks, as sorted rows."""
    together = [np.concatenate(batches) for batches in zip(*ranks, strict=True)]
    starts = range(0, len(together), accumulation)
    return [np.sort(np.concatenate(together[at : at + accumulation])).tolist() for at in starts]


def epoch_of(ranks, epoch):
    for reader in ranks:
        reader.set_epoch(epoch)
    return [rows_of(reader) for reader in ranks]


@settings(max_examples=40)
@given(
    lengths=LENGTHS,
    world_size=st.integers(1, 6),
    batch_size=st.integers(1, 7),
    ahead=st.integers(0, 2),
)
def test_evaluation_covers_everything_once(make, lengths, world_size, batch_size, ahead):
    source = make(lengths)
    plan = plan_all(source.recordings())
    config = LoaderConfig(batch_size=batch_size, prefetch_batches=ahead)
    ranks = [
        list(
            BatchReader(
                source,
                lambda _: plan,
                config,
                targets=None,
                train=False,
                rank=rank,
                world_size=world_size,
            )
        )
        for rank in range(world_size)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    every = [row for batches in ranks for rows in rows_of(batches) for row in rows]
    assert sorted(every) == plan.rows.tolist()
    for batch in (batch for batches in ranks for batch in batches):
        assert np.array_equal(batch.slices.numpy(), source.read(batch.rows.numpy()))


@settings(max_examples=40)
@given(lengths=LENGTHS, pair=two_settings(), sampling=CHOICES, seed=SEEDS, epoch=st.integers(0, 9))
def test_steps_are_the_plans_whatever_the_ranks(make, lengths, pair, sampling, seed, epoch):
    source = make(lengths)
    one, other = pair
    first = readers(source, one, sampling, seed)
    found = steps(epoch_of(first, epoch), one[2])
    second = readers(source, other, sampling, seed, prefetch_batches=0)
    assert steps(epoch_of(second, epoch), other[2]) == found
    plan = EpochPlanner(source.recordings(), sampling, seed=seed)(epoch)
    effective = one[0] * one[1] * one[2]
    wrapped = np.resize(plan.rows, -(-len(plan) // effective) * effective)
    assert found == np.sort(wrapped.reshape(-1, effective)).tolist()


@settings(max_examples=40)
@given(lengths=LENGTHS, pair=two_settings(), sampling=CHOICES, seed=SEEDS)
def test_cutting_leaves_out_less_than_a_step_and_repeats_nothing(
    make, lengths, pair, sampling, seed
):
    source = make(lengths)
    setting, _ = pair
    plan = EpochPlanner(source.recordings(), sampling, seed=seed)(0)
    effective = setting[0] * setting[1] * setting[2]
    assume(len(plan) >= effective)
    ranks = epoch_of(readers(source, setting, sampling, seed, remainder="cut"), 0)
    seen = Counter(row for rank in ranks for rows in rank for row in rows)
    left = Counter(plan.rows.tolist())
    left.subtract(seen)
    assert min(left.values()) >= 0
    assert 0 <= left.total() < effective


@settings(max_examples=60)
@given(
    lengths=LENGTHS,
    pair=two_settings(),
    sampling=CHOICES,
    seed=SEEDS,
    where=st.tuples(st.integers(0, 2), st.floats(0, 1)),
    ahead=st.integers(0, 3),
)
def test_a_resumed_training_goes_on_and_then_on(make, lengths, pair, sampling, seed, where, ahead):
    """From any step of any epoch, left early, on other ranks; the epochs after it too."""
    source = make(lengths)
    before, after = pair
    epoch, share = where
    whole = readers(source, before, sampling, seed)
    expected = [steps(epoch_of(whole, number), before[2]) for number in range(epoch + 3)]
    done = round(share * len(expected[epoch]))
    left = readers(source, before, sampling, seed, prefetch_batches=ahead)[0]
    left.set_epoch(epoch)
    for _ in islice(left, done * before[2]):
        pass
    state = left.state_dict()
    resumed = readers(source, after, sampling, seed, prefetch_batches=ahead)
    for reader in resumed:
        reader.load_state_dict(state)
    assert steps(epoch_of(resumed, epoch), after[2]) == expected[epoch][done:]
    for number in (epoch + 1, epoch + 2):
        assert steps(epoch_of(resumed, number), after[2]) == expected[number]


@settings(max_examples=30)
@given(lengths=LENGTHS, sampling=CHOICES, seed=SEEDS, taken=st.integers(0, 9))
def test_an_early_break_costs_nothing_but_the_rest(make, lengths, sampling, seed, taken):
    """The same epoch starts again, the next one is complete."""
    source = make(lengths)
    (reader,) = readers(source, (1, 2, 1), sampling, seed)
    (other,) = readers(source, (1, 2, 1), sampling, seed)
    for epoch in range(3):
        reader.set_epoch(epoch)
        other.set_epoch(epoch)
        expected = rows_of(other)
        assert rows_of(islice(reader, taken)) == expected[:taken]
        assert rows_of(reader) == expected
