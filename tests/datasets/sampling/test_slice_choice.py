"""datasets.sampling.slice_choice: which slices, for each strategy."""

import numpy as np
import polars as pl
import pytest

from datasets.sampling.slice_choice import (
    Activity,
    Draws,
    choose_active,
    choose_evenly,
    choose_first,
)
from storage.errors import ConfigError


def draws_of(num_slices, num_draws, bits, activity=None):
    """All draws of one recording for each of many random bits."""
    draw_no = np.tile(np.arange(num_draws), len(bits))
    return Draws(
        recording=np.zeros(len(draw_no), np.int64),
        num_slices=np.full(len(draw_no), num_slices),
        num_draws=np.full(len(draw_no), num_draws),
        draw_no=draw_no,
        bits=np.repeat(bits, num_draws),
        activity=activity,
    )


def random_bits(count):
    return np.random.default_rng(1).integers(0, 2**64, count, np.uint64)


@pytest.mark.parametrize("num_slices", [1, 2, 5, 13, 1440])
@pytest.mark.parametrize("num_draws", [1, 2, 5, 9, 40])
def test_draws_are_distinct_while_there_are_slices_and_even_beyond(num_slices, num_draws):
    chosen = choose_evenly(draws_of(num_slices, num_draws, random_bits(50))).reshape(50, -1)
    assert chosen.min() >= 0
    assert chosen.max() < num_slices
    for one in chosen:
        counts = np.bincount(one, minlength=num_slices)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("num_draws", [1, 3, 20])
def test_every_slice_is_equally_likely(num_draws):
    chosen = choose_evenly(draws_of(7, num_draws, random_bits(20_000)))
    assert np.allclose(np.bincount(chosen) / len(chosen), 1 / 7, atol=0.01)


def test_first_takes_them_in_order_and_begins_again():
    assert choose_first(draws_of(3, 5, random_bits(1))).tolist() == [0, 1, 2, 0, 1]


def loud_activity():
    """A recording of two slices, then one of four whose third is 10 dB above the others."""
    table = pl.DataFrame({"first_row": [10, 20]})
    index = pl.DataFrame(
        {
            "row": [10, 11, 20, 21, 22, 23],
            "recording_id": list("aabbbb"),
            "max_db": [-5.0, -5.0, -40.0, -40.0, -30.0, -40.0],
        }
    )
    return Activity.of(table, index, 10.0)


def test_active_slices_are_preferred_in_proportion():
    both = loud_activity()
    second = Activity(cumulative=both.cumulative, start=both.start[1:])
    chosen = choose_active(draws_of(4, 1, random_bits(20_000), second))
    weights = np.array([np.exp(-1), np.exp(-1), 1, np.exp(-1)])
    assert np.allclose(np.bincount(chosen) / 20_000, weights / weights.sum(), atol=0.01)


def test_a_silent_recording_still_gives_its_slices():
    index = pl.DataFrame({"row": [0, 1], "recording_id": ["a", "a"], "max_db": [-100.0, -100.0]})
    activity = Activity.of(pl.DataFrame({"first_row": [0]}), index, 10.0)
    assert np.bincount(choose_active(draws_of(2, 2, random_bits(9), activity))).tolist() == [9, 9]


def test_energy_without_levels_is_refused():
    with pytest.raises(ConfigError, match="slice_index"):
        choose_active(draws_of(2, 1, random_bits(1)))
