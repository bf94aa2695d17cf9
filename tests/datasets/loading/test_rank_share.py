"""Every position once, equal counts, independent of the number of ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.loading.rank_share import CUT, KEEP, WRAP, RankShare
from storage.errors import ConfigError

SIZES = {
    "num_samples": st.integers(0, 300),
    "batch_size": st.integers(1, 9),
    "world_size": st.integers(1, 7),
}


def shares(num_samples, batch_size, world_size, remainder, accumulation=1):
    return [
        RankShare(
            num_samples=num_samples,
            batch_size=batch_size,
            rank=rank,
            world_size=world_size,
            accumulation=accumulation,
            remainder=remainder,
        )
        for rank in range(world_size)
    ]


def batches(share):
    return [list(range(*share.bounds(number))) for number in range(share.num_batches)]


@given(**SIZES)
def test_evaluation_has_every_position_once(num_samples, batch_size, world_size):
    ranks = [batches(share) for share in shares(num_samples, batch_size, world_size, KEEP)]
    every = [position for rank in ranks for batch in rank for position in batch]
    assert sorted(every) == list(range(num_samples))
    assert all(len(batch) <= batch_size for rank in ranks for batch in rank)
    if num_samples >= world_size and batch_size > 1:
        assert all(batch for rank in ranks for batch in rank)


@given(**SIZES)
def test_evaluation_ends_on_all_ranks_at_once(num_samples, batch_size, world_size):
    counts = {share.num_batches for share in shares(num_samples, batch_size, world_size, KEEP)}
    assert counts == {-(-num_samples // (batch_size * world_size))}


@given(**SIZES, accumulation=st.integers(1, 4), remainder=st.sampled_from([CUT, WRAP]))
def test_training_gives_each_rank_equally_many_full_batches(
    num_samples, batch_size, world_size, accumulation, remainder
):
    all_shares = shares(num_samples, batch_size, world_size, remainder, accumulation)
    ranks = [batches(share) for share in all_shares]
    assert len({len(rank) for rank in ranks}) == 1
    assert len(ranks[0]) % accumulation == 0
    assert all(len(batch) == batch_size for rank in ranks for batch in rank)
    every = sorted(position for rank in ranks for batch in rank for position in batch)
    assert every == list(range(len(every)))
    left = num_samples - len(every)
    effective = batch_size * world_size * accumulation
    assert 0 <= left < effective if remainder == CUT else -effective < left <= 0


@pytest.mark.parametrize(
    ("world_size", "batch_size", "accumulation"), [(1, 4, 3), (2, 6, 1), (3, 2, 2), (12, 1, 1)]
)
def test_the_samples_of_an_optimizer_step_depend_on_the_effective_batch_alone(
    world_size, batch_size, accumulation
):
    all_shares = shares(100, batch_size, world_size, CUT, accumulation)
    assert {share.effective_batch for share in all_shares} == {12}
    for step in range(8):
        numbers = range(step * accumulation, (step + 1) * accumulation)
        samples = [range(*share.bounds(number)) for share in all_shares for number in numbers]
        assert np.sort(np.concatenate(samples)).tolist() == list(range(12 * step, 12 * step + 12))


def test_too_few_samples_to_train_with_are_refused_with_a_remedy():
    with pytest.raises(ConfigError, match=r"7 samples.*remainder=wrap"):
        shares(7, 4, 2, CUT)[0].check()
    shares(7, 4, 2, WRAP)[0].check()
    shares(0, 4, 2, KEEP)[0].check()
    with pytest.raises(ConfigError, match="rank"):
        RankShare(
            num_samples=9, batch_size=1, rank=2, world_size=2, accumulation=1, remainder=KEEP
        ).check()
