"""datasets.sampling.epoch_plan: what an epoch holds, in which order, and what it depends on."""

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig, plan_all
from storage.errors import ConfigError
from tests.fakes import fake_recordings, fake_slice_index
from tests.shard_sets import LENGTHS

TABLE = fake_recordings(LENGTHS)
EVERY_ROW = plan_all(TABLE).rows


def plan_train(table, config, *, seed, epoch, slice_index=None):
    return EpochPlanner(table, config, seed=seed, slice_index=slice_index)(epoch)


CONFIGS = st.builds(
    SamplingConfig,
    slice_choice=st.sampled_from(["random", "first", "energy"]),
    slices_per_recording=st.integers(1, 5),
    balance=st.sampled_from(["none", "sqrt", "uniform", "0.3"]),
    rating_weights=st.sampled_from([{}, {"1": 0.5, "3.0": 2.0}, {"0": 0.0}]),
    order=st.sampled_from(["global", "block"]),
    block_rows=st.integers(1, 64),
    blocks_together=st.integers(1, 4),
)
ALL_SLICES = st.builds(
    SamplingConfig,
    slice_choice=st.just("all"),
    balance=st.sampled_from(["none", "sqrt", "uniform"]),
    order=st.sampled_from(["global", "block"]),
)


@st.composite
def inputs(draw):
    """A table, a config that draws something of it, and a seed."""
    table = fake_recordings(draw(st.lists(st.integers(1, 20), min_size=1, max_size=40)))
    config = draw(CONFIGS | ALL_SLICES)
    assume(table["rating"].sum() or "0" not in config.rating_weights)
    return table, config, draw(st.integers(0, 2**40))


@settings(max_examples=150, deadline=None)
@given(drawn=inputs(), epoch=st.integers(0, 1000))
def test_a_plan_names_rows_of_its_recordings_and_is_as_long_as_every_other(drawn, epoch):
    table, config, seed = drawn
    table = table.sample(fraction=1, shuffle=True, seed=seed % 100)
    levels = fake_slice_index(table)
    plan = plan_train(table, config, seed=seed, epoch=epoch, slice_index=levels)
    offset = plan.rows - table["first_row"].to_numpy()[plan.planned_no]
    assert (offset >= 0).all()
    assert (offset < table["num_slices"].to_numpy()[plan.planned_no]).all()
    everything = config.slice_choice == "all"
    assert len(plan) == (
        table["num_slices"].sum() if everything else len(table) * config.slices_per_recording
    )
    again = plan_train(table, config, seed=seed, epoch=epoch, slice_index=levels)
    assert np.array_equal(plan.rows, again.rows)
    assert plan.digest == again.digest


@given(inputs())
def test_the_order_of_the_lines_changes_nothing(drawn):
    table, config, seed = drawn
    levels = fake_slice_index(table)
    shuffled = table.sample(fraction=1, shuffle=True, seed=seed % 1000)
    one = plan_train(table, config, seed=seed, epoch=2, slice_index=levels)
    other = plan_train(shuffled, config, seed=seed, epoch=2, slice_index=levels)
    assert np.array_equal(one.rows, other.rows)


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=60),
    labels=st.integers(1, 6),
    config=CONFIGS | ALL_SLICES,
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 1000),
)
def test_each_recording_and_each_class_is_less_than_one_from_its_expectation(
    lengths, labels, config, seed, epoch
):
    """The expectation is computed here independently, class by class."""
    table = fake_recordings(lengths, num_labels=labels)
    weights = {float(rating): weight for rating, weight in config.rating_weights.items()}
    usual = lengths if config.slice_choice == "all" else config.slices_per_recording
    mass = np.array([weights.get(rating, 1.0) for rating in table["rating"]]) * usual
    if mass.sum() == 0:
        return
    exponent = {"none": 0.0, "sqrt": 0.5, "uniform": 1.0}.get(config.balance, 0.3)
    classes = table["primary_label"].to_numpy()
    masses = {name: mass[classes == name].sum() for name in set(classes)}
    shares = {name: m ** (1 - exponent) if m else 0.0 for name, m in masses.items()}
    plan = plan_train(table, config, seed=seed, epoch=epoch, slice_index=fake_slice_index(table))
    scale = len(plan) / sum(shares.values())
    drawn = np.bincount(plan.planned_no, minlength=len(table))
    for name, share in shares.items():
        mine = classes == name
        assert abs(drawn[mine].sum() - share * scale) < 1 + 1e-6
        expected = mass[mine] * (share * scale / masses[name] if masses[name] else 0.0)
        assert np.abs(drawn[mine] - expected).max() < 1 + 1e-6


@given(inputs())
def test_the_description_adds_up(drawn):
    table, config, seed = drawn
    plan = plan_train(table, config, seed=seed, epoch=0, slice_index=fake_slice_index(table))
    lines = plan.describe()
    assert lines["primary_label"].to_list() == sorted(set(table["primary_label"]))
    assert lines["recordings"].sum() == len(table)
    assert lines["recordings_seen"].sum() == len(np.unique(plan.planned_no))
    assert lines["samples"].sum() == len(plan)
    assert lines["share"].sum() == pytest.approx(1)


@given(
    lengths=st.lists(st.integers(1, 20), min_size=2, max_size=30),
    draws=st.integers(1, 4),
    seed=st.integers(0, 2**40),
    data=st.data(),
)
def test_recordings_that_come_or_go_leave_the_others_as_they_are(lengths, draws, seed, data):
    table = fake_recordings(lengths)
    kept = data.draw(st.lists(st.booleans(), min_size=len(table), max_size=len(table)).filter(any))
    some = table.filter(pl.Series(kept))
    config = SamplingConfig(slices_per_recording=draws)
    whole = plan_train(table, config, seed=seed, epoch=1)
    part = plan_train(some, config, seed=seed, epoch=1)
    assert np.array_equal(whole.rows[np.array(kept)[whole.planned_no]], part.rows)


def test_without_balance_each_recording_comes_equally_often():
    config = SamplingConfig(slices_per_recording=3)
    plan = plan_train(TABLE, config, seed=1, epoch=0)
    assert np.bincount(plan.planned_no).tolist() == [3] * len(TABLE)
    per_recording = pl.DataFrame({"r": plan.planned_no, "row": plan.rows}).group_by("r")
    distinct = per_recording.agg(pl.col("row").n_unique()).sort("r")["row"].to_list()
    assert distinct == [min(3, length) for length in LENGTHS]


@pytest.mark.parametrize("order", ["global", "block"])
def test_all_means_every_slice_once(order):
    config = SamplingConfig(slice_choice="all", order=order, block_rows=8, blocks_together=2)
    plan = plan_train(TABLE, config, seed=1, epoch=4)
    assert not np.array_equal(plan.rows, EVERY_ROW)
    assert np.array_equal(np.sort(plan.rows), EVERY_ROW)


def test_evaluation_sees_every_slice_once_in_order():
    plan = plan_all(TABLE)
    assert len(plan) == sum(LENGTHS)
    assert np.all(np.diff(plan.rows) > 0)
    assert np.bincount(plan.planned_no).tolist() == LENGTHS


def test_over_the_epochs_every_slice_is_seen():
    planner = EpochPlanner(TABLE, SamplingConfig(), seed=1)
    seen = np.concatenate([planner(epoch).rows for epoch in range(300)])
    assert np.array_equal(np.unique(seen), EVERY_ROW)


def test_seed_and_epoch_change_slices_and_order():
    plan = plan_train(TABLE, SamplingConfig(), seed=1, epoch=1)
    for other in [
        plan_train(TABLE, SamplingConfig(), seed=2, epoch=1),
        plan_train(TABLE, SamplingConfig(), seed=1, epoch=2),
    ]:
        assert sorted(other.rows) != sorted(plan.rows)
        assert other.planned_no.tolist() != plan.planned_no.tolist()
        assert other.digest != plan.digest


def test_uniform_balance_draws_each_class_equally_often():
    table = fake_recordings([4] * 110).with_columns(
        primary_label=pl.Series(["common"] * 100 + ["rare"] * 9 + ["single"])
    )
    plan = plan_train(table, SamplingConfig(balance="uniform"), seed=1, epoch=0)
    lines = plan.describe()
    assert lines["primary_label"].to_list() == ["common", "rare", "single"]
    assert lines["recordings"].to_list() == [100, 9, 1]
    assert np.abs(lines["samples"].to_numpy() - 110 / 3).max() < 1
    assert lines["recordings_seen"].to_list()[1:] == [9, 1]
    assert lines["share"].sum() == pytest.approx(1)


def test_rating_weights_make_good_recordings_come_more_often():
    table = fake_recordings([2] * 600, num_labels=1)
    config = SamplingConfig(rating_weights={"0": 0.0, "5.0": 3.0})
    plan = plan_train(table, config, seed=1, epoch=0)
    drawn = np.bincount(plan.planned_no, minlength=600)
    ratings = table["rating"].to_numpy()
    assert (drawn[ratings == 0] == 0).all()
    assert set(drawn[(ratings > 0) & (ratings < 5)]) == {0, 1}  # 6/7 expected
    assert set(drawn[ratings == 5]) == {2, 3}  # 18/7 expected


def test_energy_prefers_the_loud_slices():
    levels = fake_slice_index(TABLE).with_columns(
        max_db=pl.when(pl.col("row").is_in(EVERY_ROW[::3])).then(-10.0).otherwise(-90.0)
    )
    config = SamplingConfig(slice_choice="energy")
    planner = EpochPlanner(TABLE, config, seed=1, slice_index=levels)
    long = np.flatnonzero(np.array(LENGTHS) >= 3)
    plan = planner(0)
    assert np.isin(plan.rows[np.isin(plan.planned_no, long)], EVERY_ROW[::3]).all()
    with pytest.raises(ConfigError, match="slice_index"):
        plan_train(TABLE, config, seed=1, epoch=0)


def test_block_order_reads_few_blocks_at_a_time_and_shuffles_all():
    table = fake_recordings([10] * 400)
    config = SamplingConfig(slice_choice="all", order="block", block_rows=100, blocks_together=4)
    plan = plan_train(table, config, seed=1, epoch=0)
    blocks = plan.rows // 100
    spans = [np.unique(blocks[start : start + 100]) for start in range(0, len(plan), 100)]
    assert max(len(span) for span in spans) <= 8  # two neighbouring groups at most
    firsts = blocks[::200]
    assert np.abs(np.diff(firsts)).mean() > 10  # far jumps
    assert len(np.unique(blocks[:200])) >= 3  # mixed within


def test_the_order_is_a_fair_shuffle():
    table = fake_recordings([1] * 200)
    planner = EpochPlanner(table, SamplingConfig(), seed=1)
    places = np.array([np.argsort(planner(epoch).planned_no) for epoch in range(400)])
    assert abs(places.mean(0) - 99.5).max() < 12  # 4 standard errors of 57.7 / 20
    assert abs(np.corrcoef(places[:-1].ravel(), places[1:].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(
    "wrong",
    [
        {"slice_choice": "last"},
        {"slices_per_recording": 0},
        {"slice_choice": "all", "slices_per_recording": 2},
        {"balance": "cubic"},
        {"order": "none"},
        {"block_rows": 0},
        {"energy_scale_db": -1.0},
        {"rating_weights": {"good": 2.0}},
        {"rating_weights": {"1": -2.0}},
    ],
    ids=lambda wrong: next(reversed(wrong)),
)
def test_a_wrong_config_is_refused(wrong):
    with pytest.raises(ConfigError, match="sampling"):
        SamplingConfig(**wrong)


def test_weights_that_leave_nothing_and_empty_tables_are_refused():
    config = SamplingConfig(rating_weights={str(rating): 0.0 for rating in range(6)})
    with pytest.raises(ConfigError, match="no recording"):
        plan_train(TABLE, config, seed=1, epoch=0)
    with pytest.raises(ConfigError, match="rating"):
        plan_train(TABLE.drop("rating"), config, seed=1, epoch=0)
    with pytest.raises(ConfigError, match="at least one"):
        plan_train(TABLE.clear(), SamplingConfig(), seed=1, epoch=0)


def test_a_plan_stays_what_it_is():
    """Saved trainings resume only while this holds."""
    plan = plan_train(TABLE, SamplingConfig(balance="sqrt"), seed=1, epoch=3)
    assert plan.rows.tolist() == [101, 138, 26, 53, 7, 17, 69, 89, 146, 40, 164, 79]
    assert plan.digest == "ef6d8219804f50cc43c1d28c9d9a624a"  # inputs, too


@pytest.mark.parametrize(
    ("slices", "draws", "words"),
    [
        ([5, 900], 1001, "=1001 is more than the longest recording has, 900 slices: .* 1,000"),
        ([5, 2000], 2001, "=2001 is .* 2,000 slices: give at most 2,000"),
        ([5], 10**9, "=1000000000 is more than the longest recording has, 5 slices"),
        (
            [1] * 300,
            10**3,
            "=1000 of 300 recordings makes epochs of 300,000 samples; .* 166, for 50,000",
        ),
    ],
)
def test_draws_that_no_memory_would_hold_are_refused(monkeypatch, slices, draws, words):
    monkeypatch.setattr("datasets.sampling.epoch_plan.MAX_SAMPLES", 50_000)
    table = fake_recordings(slices)
    with pytest.raises(ConfigError, match=f"sampling.slices_per_recording{words}"):
        EpochPlanner(table, SamplingConfig(slices_per_recording=draws), seed=1)
    most = SamplingConfig(slices_per_recording=min(1000, 50_000 // len(slices)))
    assert len(plan_train(table, most, seed=1, epoch=0)) <= 50_000


@pytest.mark.parametrize(
    "given",
    [
        {"block_rows": 10**30, "order": "block"},
        {"blocks_together": 2**41},
        {"rating_weights": {"1": float("inf")}},
        {"rating_weights": {"1": float("nan")}},
        {"energy_scale_db": float("nan")},
    ],
)
def test_numbers_beyond_use_are_refused_when_they_are_read(given):
    with pytest.raises(ConfigError, match="must"):
        SamplingConfig(**given)
