"""User functions for slice choice and balance, named module:function."""

import pickle
import sys

import numpy as np
import polars as pl
import pytest

from datasets.sampling.candidates import needs_slice_index
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig
from storage.errors import ConfigError
from tests.fakes import fake_recordings, fake_slice_index

TABLE = fake_recordings([3, 1, 8, 2, 13, 5], num_labels=2)
OWN = '''
import numpy as np
from datasets.randomness import random_unit

def early(draws):
    """The nearer the beginning, the more often."""
    unit = (random_unit(draws.bits) + draws.draw_no / draws.num_draws) % 1
    return (unit**2 * draws.num_slices).astype(int)

def loudest(draws):
    """The loudest slice, then the next, and so on."""
    level = draws.slices.index["max_db"].to_numpy()
    chosen = np.empty_like(draws.draw_no)
    for place, (recording, count, draw) in enumerate(
        zip(draws.recording, draws.num_slices, draws.draw_no % draws.num_slices)
    ):
        first = draws.slices.first_line[recording]
        chosen[place] = np.argsort(-level[first : first + count])[draw]
    return chosen

def beyond(draws):
    return draws.num_slices

def halves(draws):
    return draws.num_slices / 2

def one(draws):
    return np.zeros(1, int)

def by_rating(recordings, mass):
    return mass * recordings["rating"].to_numpy()

def nobody(recordings, mass):
    return mass * 0

def too_few(recordings, mass):
    return mass[1:]

def no_arguments():
    return None

def mass_alone(mass):
    return mass

def with_more(recordings, mass, more):
    return mass

def by_name(*, draws):
    return draws.draw_no

def wrong_column(recordings, mass):
    return recordings["not_there"]

def nothing(*_):
    return None

def texts(*given):
    return ["a"] * len(given[-1]) if len(given) > 1 else ["a"]

def uneven(*_):
    return [[1], [2, 3]]

def own_type_error(draws):
    return draws.draw_no + "text"

not_callable = 3
'''


@pytest.fixture(autouse=True)
def own_module(tmp_path, monkeypatch):
    """Writes a user's module to the folder of the command."""
    (tmp_path / "my_choices.py").write_text(OWN)
    (tmp_path / "broken_module.py").write_text("def f(:")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_choices", None)


def test_an_own_slice_choice_decides():
    config = SamplingConfig(slice_choice="my_choices:early")
    assert needs_slice_index(config, TABLE)
    planner = EpochPlanner(TABLE, config, seed=1)
    rows = np.concatenate([planner(epoch).rows for epoch in range(1500)])
    of_longest = rows - TABLE["first_row"][4]
    counts = np.bincount(of_longest[(of_longest >= 0) & (of_longest < 13)], minlength=13)
    edges = np.sqrt(np.arange(14) / 13)
    np.testing.assert_allclose(counts / 1500, np.diff(edges), atol=0.04)


def test_a_planner_with_an_own_strategy_can_go_to_another_process():
    planner = EpochPlanner(TABLE, SamplingConfig(slice_choice="my_choices:early"), seed=1)
    assert pickle.loads(pickle.dumps(planner))(3).digest == planner(3).digest


def test_an_own_slice_choice_may_look_at_the_slices_that_are_candidates():
    index = fake_slice_index(TABLE)
    config = SamplingConfig(
        slice_choice="my_choices:loudest", where="max_db < -10", slices_per_recording=2
    )
    planner = EpochPlanner(TABLE, config, seed=1, slice_index=index)
    quiet = index.filter(pl.col("max_db") < -10).sort("max_db", descending=True)
    wanted = []
    for _, lines in quiet.group_by("recording_id", maintain_order=True):
        wanted += np.resize(lines["row"].to_numpy()[:2], 2).tolist()
    assert sorted(planner(0).rows) == sorted(wanted)
    assert sorted(planner(1).rows) == sorted(wanted)


def test_an_own_balance_decides_and_is_exact():
    config = SamplingConfig(balance="my_choices:by_rating", slices_per_recording=4)
    plan = EpochPlanner(TABLE, config, seed=1)(0)
    ratings = TABLE["rating"].to_numpy()
    drawn = np.bincount(plan.planned_no, minlength=len(TABLE))
    assert np.abs(drawn - 24 * ratings / ratings.sum()).max() < 1
    assert len(plan) == 24


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slice_choice": "my_choices:beyond"}, "chose slice 3 of a recording with 3"),
        ({"slice_choice": "my_choices:halves"}, "one whole number for each of 6 draws"),
        ({"slice_choice": "my_choices:one"}, "one whole number for each of 6 draws"),
        ({"slice_choice": "my_choices:missing"}, "no function 'missing'"),
        ({"slice_choice": "my_choices:not_callable"}, "no function 'not_callable'"),
        ({"slice_choice": "no_such_module:early"}, "No module named 'no_such_module'"),
        ({"slice_choice": ":early"}, "sampling.slice_choice=:early"),
        (
            {"slice_choice": "early"},
            "none of random, all, .*, best_of, nor module:function",
        ),
        ({"balance": "my_choices:nobody"}, "not all 0"),
        ({"balance": "my_choices:too_few"}, "one number for each of 6 recordings"),
        ({"balance": "my_choices:missing"}, "sampling.balance=my_choices:missing"),
        *(
            ({"slice_choice": f"my_choices:{name}"}, f"{name} takes .*must take .draws. and return")
            for name in ("no_arguments", "by_rating", "by_name", "with_more")
        ),
        *(
            ({"balance": f"my_choices:{name}"}, r"must take .recordings, mass. and return an array")
            for name in ("no_arguments", "mass_alone", "with_more", "by_name", "wrong_column")
        ),
        *(
            ({"balance": f"my_choices:{name}"}, "must return one number for each of 6 recordings")
            for name in ("texts", "uneven")
        ),
        ({"balance": "my_choices:nothing"}, "must return"),
        *(
            ({"slice_choice": f"my_choices:{name}"}, "must return one whole number for each of 6")
            for name in ("nothing", "texts", "uneven")
        ),
        (
            {"slice_choice": "my_choices:own_type_error"},
            r"failed: .*Error.*my_choices.py, line \d+",
        ),
        ({"slice_choice": "broken_module:f"}, "SyntaxError: .*give module:function"),
        ({"slice_choice": ".relative:f"}, "give module:function"),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else "",
)
def test_what_an_own_strategy_must_not_do_is_refused_by_name(options, message):
    with pytest.raises(ConfigError, match=message):
        EpochPlanner(TABLE, SamplingConfig(**options), seed=1)(0)
