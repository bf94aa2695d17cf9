"""datasets.sampling.candidates: sampling.where on recordings and on slices, and rows left out."""

from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.sampling import candidates
from datasets.sampling.candidates import _rows_where, needs_slice_index
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig
from storage.errors import ConfigError
from tests.fakes import fake_recordings, fake_slice_index
from tests.shard_sets import LENGTHS

TABLE = fake_recordings(LENGTHS)

INDEX = fake_slice_index(TABLE)


def planner(where, table=TABLE, index=INDEX, eligible=None, **options):
    config = SamplingConfig(where=where, **options)
    return EpochPlanner(table, config, seed=1, slice_index=index, eligible=eligible)


def test_a_condition_on_recordings_needs_no_slice_index():
    config = SamplingConfig(where="rating >= 3 AND primary_label <> 'a'")
    assert not needs_slice_index(config, TABLE)
    plan = EpochPlanner(TABLE, config, seed=1)(0)
    kept = TABLE.filter((pl.col("rating") >= 3) & (pl.col("primary_label") != "a"))
    assert plan.recordings.equals(kept)
    assert np.bincount(plan.planned_no).tolist() == [1] * len(kept)


@pytest.mark.parametrize("choice", ["random", "all", "first", "energy"])
@pytest.mark.parametrize("order", ["global", "block"])
def test_only_slices_that_fulfil_the_condition_are_seen(choice, order):
    where = "NOT silent AND max_db > -70 AND rating < 5"
    assert needs_slice_index(SamplingConfig(where=where), TABLE)
    options = {"slice_choice": choice, "order": order, "energy_scale_db": 1000.0}
    made = planner(where, **options)
    plans = [made(epoch) for epoch in range(200)]
    joined = INDEX.join(TABLE.select("recording_id", "rating"), on="recording_id")
    loud = joined.filter(~pl.col("silent"), pl.col("max_db") > -70, pl.col("rating") < 5)
    seen = np.unique(np.concatenate([plan.rows for plan in plans]))
    if choice == "first":
        wanted = loud.group_by("recording_id").agg(pl.col("row").min())["row"]
    else:
        wanted = loud["row"]
    assert seen.tolist() == sorted(wanted)
    assert plans[0].recordings["recording_id"].to_list() == [
        name for name in TABLE["recording_id"] if name in set(loud["recording_id"])
    ]
    if choice == "all":
        assert np.sort(plans[0].rows).tolist() == sorted(loud["row"])


CONDITIONS = (
    "NOT silent AND max_db > -60",
    "max_db BETWEEN -70 AND -20 OR rating IN (1, 2.5) OR silent IS NULL",
    "max_db + 10 > -2 * rating AND primary_label LIKE 'a%'",
    "max_db > avg(max_db)",
    "row > 5 AND (rating >= 3 OR slice_no = 0)",
)


@settings(max_examples=8)
@given(
    where=st.sampled_from(CONDITIONS),
    most=st.integers(3, 9),
    kept=st.lists(st.booleans(), min_size=len(TABLE), max_size=len(TABLE)).filter(any),
    seed=st.integers(0, 9),
)
def test_slices_tried_piece_by_piece_are_those_of_all_at_once(where, most, kept, seed):
    table, index = TABLE.filter(pl.Series(kept)), fake_slice_index(TABLE, seed)
    whole = _rows_where(table, index, where)
    with mock.patch.object(candidates, "PIECE", most):
        assert np.array_equal(_rows_where(table, index, where), whole)
        assert np.array_equal(_rows_where(table[::-1], index[::-1], where), whole)
    joined = index.join(table.drop("first_row"), on="recording_id", maintain_order="left")
    assert whole.tolist() == joined.sql(f"SELECT row FROM self WHERE {where}")["row"].to_list() or (
        "avg" in where
    )


def test_a_condition_that_all_fulfil_changes_nothing():
    with_all = planner("max_db <= 0", slices_per_recording=2)(3)
    without = planner(None, slices_per_recording=2)(3)
    assert np.array_equal(with_all.rows, without.rows)


def test_a_new_recording_does_not_change_what_is_seen_of_the_others():
    some = TABLE[:-2]
    before = planner("NOT silent", table=some, slices_per_recording=2)(1)
    after = planner("NOT silent", slices_per_recording=2)(1)
    old = after.rows < TABLE["first_row"][-2]
    assert 0 < old.sum() < len(old)
    assert np.array_equal(after.rows[old], before.rows)


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=25),
    draws=st.integers(1, 6),
    seed=st.integers(0, 2**40),
)
def test_candidates_come_equally_often_to_within_one(lengths, draws, seed):
    table = fake_recordings(lengths).sample(fraction=1, shuffle=True, seed=seed % 100)
    index = fake_slice_index(table, seed)
    if index["silent"].all():
        return
    config = SamplingConfig(where="NOT silent", slices_per_recording=draws)
    plan = EpochPlanner(table, config, seed=seed, slice_index=index)(0)
    heard = index.filter(~pl.col("silent"))
    counts = heard.join(
        pl.DataFrame({"row": plan.rows}).group_by("row").agg(n=pl.len()), on="row", how="left"
    ).with_columns(pl.col("n").fill_null(0).cast(pl.Int64))
    assert counts["n"].sum() == len(plan) == draws * heard["recording_id"].n_unique()
    spread = counts.group_by("recording_id").agg(pl.col("n").max() - pl.col("n").min())
    assert spread["n"].max() <= 1


def test_rows_that_are_not_eligible_are_never_drawn():
    eligible = INDEX.filter(pl.col("slice_no") % 2 == 0)["row"].to_numpy()
    plan = planner("NOT silent", eligible=eligible, slice_choice="all")(0)
    wanted = INDEX.filter(~pl.col("silent"), pl.col("slice_no") % 2 == 0)["row"]
    assert np.sort(plan.rows).tolist() == wanted.to_list()


def test_another_condition_is_another_plan_in_words():
    one, other = planner("max_db > -40")(0), planner("max_db > -50")(0)
    assert one.digest != other.digest
    assert one.inputs["sampling.where"] == "max_db > -40"
    assert one.inputs["recordings"] != other.inputs["recordings"]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("loudness > 3", "there is no column loudness"),
        ("max_db >", "not SQL"),
        ("max_db > 'loud'", "is not a valid condition"),
        ("max_db > -60 UNION SELECT * FROM slices", "is not a valid condition"),
        ("max_db > 100", "none of the slices"),
        ("rating > 100", "none of 12 recordings"),
        ("row IN (SELECT row FROM read_parquet('/etc/x'))", "reads only slices"),
        ("TRUE; DROP TABLE slices", "one SELECT"),
    ],
)
def test_a_condition_that_is_none_or_leaves_nothing_is_refused(where, message):
    with pytest.raises(ConfigError, match=message):
        planner(where)


def test_a_condition_on_slices_without_their_index_is_refused():
    with pytest.raises(ConfigError, match="give slice_index"):
        planner("NOT silent", index=None)
