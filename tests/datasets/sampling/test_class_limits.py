"""datasets.sampling.class_limits: floor and ceiling of the draws of a class."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.sampling.class_limits import limited_draws, resample_classes
from datasets.sampling.config import SamplingConfig
from datasets.sampling.epoch_plan import EpochPlanner
from storage.errors import ConfigError
from tests.fakes import fake_recordings
from tests.pools import pool_table


def labelled(**counts):
    """One recording of two slices for each label's count."""
    labels = [label for label, count in counts.items() for _ in range(count)]
    return fake_recordings([2] * len(labels)).with_columns(primary_label=pl.Series(labels))


def drawn_of(table, plan):
    labels = table["primary_label"].fill_null("").to_numpy()[plan.planned_no]
    names, counts = np.unique(labels, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({"min_draws_per_class": 5}, {"a": 40, "b": 7, "c": 5, "d": 5}),
        ({"max_draws_per_class": 20}, {"a": 20, "b": 7, "c": 2, "d": 1}),
        ({"min_draws_per_class": 4, "max_draws_per_class": 6}, {"a": 6, "b": 6, "c": 4, "d": 4}),
        ({"min_draws_per_class": 20, "balance": "uniform"}, {"a": 20, "b": 20, "c": 20, "d": 20}),
        ({"max_draws_per_class": 9, "balance": "uniform"}, {"a": 9, "b": 9, "c": 9, "d": 9}),
        ({"min_draws_per_class": 3, "slices_per_recording": 2}, {"a": 80, "b": 14, "c": 4, "d": 3}),
    ],
    ids=["floor", "ceiling", "both", "floor-uniform", "ceiling-uniform", "two-slices"],
)
def test_classes_come_as_often_as_they_may_in_every_epoch(sampling, expected):
    table = labelled(a=40, b=7, c=2, d=1)
    planner = EpochPlanner(table, SamplingConfig(**sampling), seed=1)
    for epoch in range(5):
        plan = planner(epoch)
        assert drawn_of(table, plan) == expected
        drawn = np.bincount(plan.planned_no, minlength=50)
        for label, count in expected.items():
            mine = drawn[(table["primary_label"] == label).to_numpy()]
            assert mine.max() - mine.min() <= 1  # shared evenly by its recordings
            assert mine.sum() == count


def test_recordings_without_a_label_have_no_floor():
    table = labelled(a=40, b=1).with_columns(
        primary_label=pl.when(pl.col("primary_label") == "a").then("primary_label")
    )
    plan = EpochPlanner(table, SamplingConfig(max_draws_per_class=10), seed=1)(0)
    assert drawn_of(table, plan) == {"a": 10, "": 1}
    plan = EpochPlanner(table, SamplingConfig(min_draws_per_class=3), seed=1)(0)
    assert drawn_of(table, plan) == {"a": 40, "": 1}


def test_sources_share_a_class_by_their_weights():
    table = pool_table(focal=[2] * 30, pool=[2] * 60)
    config = SamplingConfig(max_draws_per_class=20)
    planner = EpochPlanner(table, config, seed=1, source_weights={"focal": 3.0, "pool": 1.0})
    plan = planner(2)
    counts = np.unique(
        table["source"].to_numpy()[plan.planned_no].astype(str)
        + table["primary_label"].to_numpy()[plan.planned_no].astype(str),
        return_counts=True,
    )
    assert counts[1].tolist() == [15] * 3 + [5] * 3


@settings(max_examples=100, deadline=None)
@given(
    expected=st.lists(st.just(0.0) | st.floats(1e-100, 9), min_size=1, max_size=40),
    seed=st.integers(0, 2**40),
    least=st.integers(0, 8),
    room=st.integers(0, 8) | st.none(),
)
def test_a_class_gets_its_draws_and_a_recording_is_near_its_own(expected, seed, least, room):
    rng = np.random.default_rng(seed)
    expected = np.array(expected)
    classes = rng.integers(0, 4, len(expected))
    most = None if room is None else max(1, least + room)
    draws_C = limited_draws(expected, classes, np.array([True] * 3 + [False]), least, most)
    sums = np.bincount(classes, weights=expected, minlength=4)
    for number, total in enumerate(sums):
        if total == 0:
            assert draws_C[number] == 0
        elif number < 3:
            nearest = max(1, int(np.floor(total + 0.5)))
            assert draws_C[number] == min(max(nearest, least), most or 10**9)
    bits = rng.integers(0, 2**64, len(expected), np.uint64)
    drawn = resample_classes(expected, classes, rng.integers(0, 2, len(expected)), bits, draws_C)
    assert np.bincount(classes, weights=drawn, minlength=4).tolist() == draws_C.tolist()
    scale = np.divide(draws_C, sums, out=np.zeros(4), where=sums > 0)
    assert np.abs(drawn - expected * scale[classes]).max() < 1 + 1e-6
    assert (drawn >= 0).all()


def test_limits_that_contradict_or_outgrow_memory_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"min_draws_per_class=5 is more than .*=4"):
        SamplingConfig(min_draws_per_class=5, max_draws_per_class=4)
    with pytest.raises(ConfigError, match="max_draws_per_class=0 must be at least 1"):
        SamplingConfig(max_draws_per_class=0)
    monkeypatch.setattr("datasets.sampling.epoch_plan.MAX_SAMPLES", 1000)
    config = SamplingConfig(min_draws_per_class=10**6)
    with pytest.raises(ConfigError, match="of 2 classes makes epochs of 2,000,000 samples"):
        EpochPlanner(labelled(a=3, b=2), config, seed=1)
