"""datasets.sampling.draw_weights and top_targets: weights by site and by targets."""

import numpy as np
import polars as pl
import pytest

from datasets.injection import InjectSpec
from datasets.sampling import top_targets
from datasets.sampling.config import SamplingConfig, SubstituteSpec
from datasets.sampling.draw_weights import site_weights
from datasets.sampling.epoch_plan import EpochPlanner
from storage.errors import ConfigError
from tests.fakes import fake_recordings, fake_slice_index
from tests.pools import facts_of, pool_table, rows_of

TABLE = pool_table(focal=[1] * 4, pool=[2, 1, 3])
VALUES = [  # of the slices of the pool's three recordings
    [0.5, 0.2, 0.0],
    [0.1, 0.4, 0.0],
    [0.0, 0.0, 0.0],
    [0.2, 0.0, 0.9],
    [0.1, 0.0, 0.6],
    [0.0, 0.0, 0.0],
]
WEIGHTS = {"focal": 1.0, "pool": 0.0}


def drawn_rows(config, facts, *, weights=WEIGHTS, table=TABLE, num_epochs=400):
    planner = EpochPlanner(table, config, seed=1, source_weights=weights, facts=facts)
    return [planner(epoch) for epoch in range(num_epochs)]


def shares_of(rows, of):
    return np.array([(rows == row).mean() for row in of])


def test_top_targets_are_those_of_a_plain_loop(monkeypatch):
    monkeypatch.setattr(top_targets, "PIECE", 2)
    config = SamplingConfig(substitute=SubstituteSpec(source="pool"))
    rows = rows_of(TABLE, "pool")
    allowed = rows[[0, 1, 3, 4]]
    for eligible, kept in [(None, range(6)), (allowed, [0, 1, 3, 4])]:
        tops = facts_of(TABLE, config, VALUES, eligible=eligible).tops
        assert tops.rows.tolist() == [rows[number] for number in kept]
        expected = [
            int(np.argmax(VALUES[number])) if max(VALUES[number]) > 0 else -1 for number in kept
        ]
        assert tops.top_class.tolist() == expected
        assert tops.top_value.tolist() == [np.float32(max(VALUES[number])) for number in kept]
        assert np.allclose(tops.max_sum, [0.5 + 0.4, 0.0, 0.2 + 0.9])
    assert tops.classes_of(rows).tolist() == [0, 1, -1, 2, 2, -1]
    assert tops.sums_of(np.array([3])).tolist() == [0.0]
    assert facts_of(TABLE, SamplingConfig(), VALUES).tops is None


def test_by_max_sum_a_recording_is_drawn_by_its_largest_targets_in_sum():
    config = SamplingConfig(inject=[InjectSpec(source="pool", p=1.0)], slices_per_recording=10)
    facts = facts_of(TABLE, config, VALUES, draws={"pool": "max_sum"})
    plans = drawn_rows(config, facts)
    found = shares_of(np.concatenate([plan.partner_rows for plan in plans]), rows_of(TABLE, "pool"))
    first, last = 0.9 / 2.0 / 2, 1.1 / 2.0 / 3
    assert np.allclose(found, [first, first, 0, last, last, last], atol=0.015)


def test_by_slice_max_slices_are_drawn_in_proportion_to_their_largest_target():
    config = SamplingConfig(inject=[InjectSpec(source="pool", p=1.0)], slices_per_recording=10)
    facts = facts_of(TABLE, config, VALUES, draws={"pool": "slice_max"})
    plans = drawn_rows(config, facts)
    found = shares_of(np.concatenate([plan.partner_rows for plan in plans]), rows_of(TABLE, "pool"))
    assert np.allclose(found, np.array([0.5, 0.4, 0, 0.9, 0.6, 0]) / 2.4, atol=0.015)


@pytest.mark.parametrize("weights", [{"focal": 1.0, "pool": 1.0}, None])
def test_samples_are_drawn_by_targets_too_and_shares_of_sources_stay(weights):
    config = SamplingConfig(slices_per_recording=20)
    facts = facts_of(TABLE, config, VALUES, draws={"pool": "slice_max"})
    plans = drawn_rows(config, facts, weights=weights)
    assert {len(plan) for plan in plans} == {140}
    rows = np.concatenate([plan.rows for plan in plans])
    pool = rows_of(TABLE, "pool")
    inside = rows[np.isin(rows, pool)]
    assert len(inside) / len(rows) == pytest.approx(0.5 if weights else 3 / 7)
    expected = np.array([0.5, 0.4, 0, 0.9, 0.6, 0]) / 2.4
    assert np.allclose(shares_of(inside, pool), expected, atol=0.01)
    rest = rows[~np.isin(rows, pool)]
    assert np.allclose(shares_of(rest, rows_of(TABLE, "focal")), 1 / 4, atol=0.01)


def test_energy_and_targets_multiply():
    config = SamplingConfig(slice_choice="energy", slices_per_recording=50, energy_scale_db=10)
    table = TABLE.sort("first_row", descending=True)
    levels = fake_slice_index(TABLE).with_columns(max_db=pl.col("slice_no") * -10.0)
    facts = facts_of(TABLE, config, VALUES, draws={"pool": "slice_max"})
    planner = EpochPlanner(
        table,
        config,
        seed=1,
        slice_index=levels,
        source_weights={"focal": 0.0, "pool": 1.0},
        facts=facts,
    )
    rows = np.concatenate([planner(epoch).rows for epoch in range(200)])
    pool = rows_of(TABLE, "pool")
    first, second = np.array([0.5, 0.4 / np.e]), np.array([0.9, 0.6 / np.e])
    shares = [*(0.9 / 2.4 * first / first.sum()), 0, *(1.5 / 2.4 * second / second.sum()), 0]
    assert np.allclose(shares_of(rows, pool), shares, atol=0.01)


def test_a_site_weighs_by_the_root_of_its_recordings():
    sites = ["x", "x", "x", "x", "y", None, None]
    table = fake_recordings([1] * 7, num_labels=1).with_columns(site=pl.Series(sites))
    expected = [0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0]
    assert site_weights(table, "site").tolist() == expected
    config = SamplingConfig(site_column="site", slices_per_recording=10)
    plan = EpochPlanner(table, config, seed=1)(0)
    drawn = np.bincount(plan.planned_no, minlength=7)
    assert drawn.tolist() == [7, 7, 7, 7, 14, 14, 14]
    with pytest.raises(ConfigError, match="site_column=plot is no column"):
        EpochPlanner(table, SamplingConfig(site_column="plot"), seed=1)


def test_sites_are_those_of_their_source_and_count_for_partners():
    table = TABLE.with_columns(site=pl.lit("x"))
    assert np.allclose(site_weights(table, "site"), [0.5] * 4 + [3**-0.5] * 3)
    sites = pl.Series(["x"] * 5 + ["y", "y"])
    config = SamplingConfig(
        inject=[InjectSpec(source="pool", p=1.0)], site_column="site", slices_per_recording=10
    )
    plans = drawn_rows(config, None, table=TABLE.with_columns(site=sites))
    found = shares_of(np.concatenate([plan.partner_rows for plan in plans]), rows_of(TABLE, "pool"))
    whole = 1 + 2 * 2**-0.5
    other = 2**-0.5 / whole
    assert np.allclose(found, [0.5 / whole, 0.5 / whole, other, *[other / 3] * 3], atol=0.015)


@pytest.mark.parametrize("choice", ["first", "all"])
def test_weights_of_slices_need_a_choice_that_heeds_them(choice):
    config = SamplingConfig(slice_choice=choice)
    facts = facts_of(TABLE, config, VALUES, draws={"pool": "slice_max"})
    with pytest.raises(ConfigError, match=f"sampling.slice_choice={choice} does not heed"):
        EpochPlanner(TABLE, config, seed=1, facts=facts)


@pytest.mark.parametrize("rule", ["max_sum", "slice_max"])
def test_targets_of_nothing_are_refused(rule):
    config = SamplingConfig()
    facts = facts_of(TABLE, config, np.zeros((6, 3)), draws={"pool": rule})
    with pytest.raises(ConfigError, match=f"sources.pool.draw={rule} .* all targets of its 3"):
        EpochPlanner(TABLE, config, seed=1, facts=facts)


def test_the_state_names_targets_and_rules():
    config = SamplingConfig(inject=[InjectSpec(source="pool")])
    found = [
        EpochPlanner(
            TABLE,
            config,
            seed=1,
            source_weights=WEIGHTS,
            facts=facts_of(TABLE, config, np.array(VALUES) * scale, draws={"pool": rule}),
        )(0).inputs
        for rule, scale in [("max_sum", 1.0), ("max_sum", 0.5), ("slice_max", 1.0)]
    ]
    assert found[0]["draw of pool"] == "max_sum"
    assert found[0]["targets of pools"] != found[1]["targets of pools"]
    assert found[0]["targets of pools"] == found[2]["targets of pools"]
    assert found[0]["weights of recordings"] != found[2]["weights of recordings"]
