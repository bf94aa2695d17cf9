"""datasets.sampling.slice_choice: which slices, for each strategy."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from datasets.sampling.slice_choice import (
    Activity,
    Draws,
    Levels,
    choose_active,
    choose_best,
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


def best_in_a_loop(draws, level):
    """The definition: the loudest of a draw's own candidates, out of one systematic sample."""
    chosen = []
    for place in range(len(draws.draw_no)):
        num_slices, num_draws = int(draws.num_slices[place]), int(draws.num_draws[place])
        whole = num_draws * draws.best_of
        start = int(draws.bits[place]) % (num_slices * whole)
        candidates = [
            (start + (int(draws.draw_no[place]) + number * num_draws) * num_slices)
            % (num_slices * whole)
            // whole
            for number in range(draws.best_of)
        ]
        chosen.append(max(candidates, key=lambda one: level[one]))
    return chosen


@pytest.mark.parametrize("best_of", [1, 2, 3, 7])
@pytest.mark.parametrize(("num_slices", "num_draws"), [(1, 1), (5, 1), (12, 4), (40, 3)])
def test_best_of_takes_the_loudest_of_its_candidates(num_slices, num_draws, best_of):
    level = np.random.default_rng(2).uniform(-60, 0, num_slices).astype(np.float32)
    level[::4] = -30  # ties
    draws = draws_of(num_slices, num_draws, random_bits(100))
    levels = Levels(of_slice=level, start=np.array([0]))
    draws = replace(draws, levels=levels, best_of=best_of)
    chosen = choose_best(draws)
    assert chosen.tolist() == best_in_a_loop(draws, level)
    if num_draws * best_of <= num_slices:  # no two draws of a recording share a candidate
        assert all(len(set(one)) == num_draws for one in chosen.reshape(100, -1).tolist())


def test_best_of_three_is_louder_than_a_random_slice_and_not_always_the_loudest():
    level = np.linspace(-50, -1, 50, dtype=np.float32)
    draws = replace(
        draws_of(50, 1, random_bits(5000)),
        levels=Levels(of_slice=level, start=np.array([0])),
        best_of=3,
    )
    chosen = choose_best(draws)
    # candidates are 50/3 slices apart, so the last is one of the last 17, each equally often
    assert chosen.min() >= 32
    assert abs(chosen.mean() - 41) < 0.3


def test_best_of_needs_levels_of_all_slices():
    with pytest.raises(ConfigError, match="slice_index"):
        choose_best(draws_of(2, 1, random_bits(1)))
    index = pl.DataFrame({"row": [0, 1], "max_db": [-1.0, None]})
    for column in ("max_db", "mean_db"):
        with pytest.raises(ConfigError, match=f"needs {column} of each slice"):
            Levels.of(pl.DataFrame({"first_row": [0]}), index, column)
