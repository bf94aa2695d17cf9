"""datasets.sources.mix: several sources as one, with exact shares."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig, plan_all
from datasets.shards.writer import ShardConfig, write_shards
from datasets.slice_source import SOURCE_ROWS, rows_in_source
from datasets.sources.mix import MixedSource, SourceMix, SourceSpec, open_sources, source_weights
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.errors import ConfigError, StoreError
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.fakes import SMALL, fake_recordings, write_fake_source
from tests.sounds import write_source


def renamed(source, prefix):
    """The same source with other recording ids."""
    ids = pl.concat_str(pl.lit(prefix), "recording_id").alias("recording_id")
    return replace(
        source, table=source.table.with_columns(ids), index=source.index.with_columns(ids)
    )


@pytest.fixture
def focal(tmp_path):
    return write_fake_source(tmp_path / "focal.raw", [3, 1, 5, 2, 4, 6, 1, 2], seed=1)


@pytest.fixture
def pool(tmp_path):
    return renamed(write_fake_source(tmp_path / "pool.raw", [9, 2, 7], seed=2), "pool ")


def mix_of(**sources):
    return SourceMix([MixedSource(name=name, source=one) for name, one in sources.items()])


def planner_of(mix, weights=None, *, seed=1, **sampling):
    config = SamplingConfig(**sampling)
    return EpochPlanner(mix.recordings(), config, seed=seed, source_weights=weights)


def test_recordings_are_those_of_all_sources_with_shifted_rows(focal, pool):
    table = mix_of(focal=focal, pool=pool).recordings()
    assert table["source"].to_list() == ["focal"] * 8 + ["pool"] * 3
    assert table["recording_id"].n_unique() == 11
    assert table["first_row"].is_sorted()
    rows = plan_all(table).rows
    assert rows_in_source(rows).tolist() == [*focal.index["row"], *pool.index["row"]]
    assert (rows // SOURCE_ROWS).tolist() == [0] * 24 + [1] * 18


def test_the_slice_index_has_the_same_rows_and_ids(focal, pool):
    mix = mix_of(focal=focal, pool=pool)
    index = mix.slice_index()
    assert index["row"].to_list() == plan_all(mix.recordings()).rows.tolist()
    joined = index.join(mix.recordings(), on="recording_id", how="left")
    assert (joined["row"] - joined["first_row"] == joined["slice_no"]).all()
    assert index["max_db"].to_list() == [*focal.index["max_db"], *pool.index["max_db"]]


def test_batches_hold_the_cells_of_their_source(focal, pool):
    mix = mix_of(focal=focal, pool=pool)
    table = mix.recordings()
    planner = planner_of(mix, {"focal": 1, "pool": 1}, slices_per_recording=4)
    targets = np.arange(len(table), dtype=np.float32)[:, None]
    reader = BatchReader(mix, planner, LoaderConfig(batch_size=11), targets=targets, train=True)
    for batch in reader:
        for row, number, cells, target in zip(
            batch.rows.numpy(), batch.recording_no.numpy(), batch.slices, batch.targets, strict=True
        ):
            source = (focal, pool)[row // SOURCE_ROWS]
            assert np.array_equal(cells, source.read(rows_in_source(np.array([row])))[0])
            first = table["first_row"][int(number)]
            assert first <= row < first + table["num_slices"][int(number)]
            assert target == number


def test_zarr_and_tar_can_be_mixed(tmp_path):
    recipe = Recipe(sample_rate_hz=8000, fmax_hz=4000, slice_s=3.0, n_mels=16)
    for seed, name in enumerate(["one", "two"]):
        rng = np.random.default_rng(seed)
        root = write_source(tmp_path / f"source {name}", [3, 8, 5], rng)
        store = str(tmp_path / name)
        build_store(SourceConfig(root=str(root)), recipe, store, BuildConfig(workers=1))
        with open_store(store) as opened:
            write_shards(opened, str(tmp_path / f"{name} shards"), ShardConfig())
    mix = open_sources(
        {
            "zarr": SourceSpec(store=str(tmp_path / "one")),
            "tar": SourceSpec(shards=str(tmp_path / "two shards"), shared_ids="rename"),
        }
    )
    planner = planner_of(mix, slice_choice="all", order="block", block_rows=2)
    reader = BatchReader(mix, planner, LoaderConfig(batch_size=3), targets=None, train=False)
    sources = [open_store(str(tmp_path / name)) for name in ("one", "two")]
    seen = []
    for batch in reader:
        for row, cells in zip(batch.rows.tolist(), batch.slices.numpy(), strict=True):
            expected = sources[row // SOURCE_ROWS].read([row % SOURCE_ROWS])[0]
            assert np.array_equal(cells, expected)
            seen.append(row)
    assert sorted(seen) == plan_all(mix.recordings()).rows.tolist()
    assert len({row // SOURCE_ROWS for row in seen}) == 2


@given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=4),
    weights=st.lists(st.floats(0, 10).filter(lambda w: w == 0 or w > 1e-3), min_size=4, max_size=4),
    balance=st.sampled_from(["none", "sqrt", "uniform"]),
    draws=st.integers(1, 4),
    seed=st.integers(0, 2**40),
)
def test_shares_are_the_weights_and_each_recording_is_near_its_expectation(
    sizes, weights, balance, draws, seed
):
    names = [f"source {number}" for number in range(len(sizes))]
    given_weights = dict(zip(names, weights, strict=False))
    if sum(given_weights.values()) == 0:
        return
    frames = [
        fake_recordings([2] * size).with_columns(
            pl.format("{} {}", pl.lit(name), "recording_id").alias("recording_id"),
            pl.col("first_row") + number * SOURCE_ROWS,
            source=pl.lit(name),
        )
        for number, (name, size) in enumerate(zip(names, sizes, strict=True))
    ]
    table = pl.concat(frames)
    config = SamplingConfig(balance=balance, slices_per_recording=draws)
    planner = EpochPlanner(table, config, seed=seed, source_weights=given_weights)
    plan = planner(seed % 7)
    total = draws * len(table)
    assert len(plan) == total
    drawn = table.select(
        "source",
        "primary_label",
        n=pl.Series(np.bincount(plan.planned_no, minlength=len(table))),
    )
    for name, weight in given_weights.items():
        expected = total * weight / sum(given_weights.values())
        mine = drawn.filter(source=name)
        assert abs(mine["n"].sum() - expected) < 1 + 1e-6
        if balance == "none":
            assert np.abs(mine["n"].to_numpy() - expected / len(mine)).max() < 1 + 1e-6
        if balance == "uniform":
            per_class = mine.group_by("primary_label").agg(pl.col("n").sum())["n"].to_numpy()
            assert np.abs(per_class - expected / len(per_class)).max() < 1 + 1e-6


def test_two_sources_resume_exactly(focal, pool):
    mix = mix_of(focal=focal, pool=pool)

    def reader(weights):
        planner = planner_of(mix, weights, seed=3, slices_per_recording=4, balance="sqrt")
        return BatchReader(mix, planner, LoaderConfig(batch_size=4), targets=None, train=True)

    weights = {"focal": 1.0, "pool": 0.3}
    whole = [batch.rows.tolist() for batch in reader(weights)]
    first = reader(weights)
    batches = iter(first)
    for _ in range(4):
        next(batches)
    state = first.state_dict()
    batches.close()
    second = reader(weights)
    second.load_state_dict(state)
    assert [batch.rows.tolist() for batch in second] == whole[4:]
    shares = np.bincount(np.concatenate(whole) // SOURCE_ROWS) / 44
    assert abs(shares[1] - 0.3 / 1.3) < 1 / 44
    with pytest.raises(ConfigError, match=r"weight of pool: 0.3 then, 0.5 now"):
        reader({"focal": 1.0, "pool": 0.5}).load_state_dict(state)


def test_a_new_source_does_not_change_which_slices_are_chosen_of_the_first(focal, pool):
    alone = planner_of(mix_of(focal=focal), slices_per_recording=2)(2)
    both = planner_of(mix_of(focal=focal, pool=pool), slices_per_recording=2)(2)
    assert both.rows[both.rows < SOURCE_ROWS].tolist() == alone.rows.tolist()


def test_a_plan_describes_its_sources_and_can_be_looked_at(focal, pool, tmp_path):
    mix = mix_of(focal=focal, pool=pool)
    plan = planner_of(mix, {"focal": 3, "pool": 1}, slices_per_recording=2)(0)
    lines = plan.describe()
    assert lines.columns == [
        "source", "primary_label", "recordings", "recordings_seen", "samples", "share",
    ]  # fmt: skip
    assert lines.filter(source="focal")["samples"].sum() in (16, 17)
    assert lines["share"].sum() == pytest.approx(1)
    plan.write_parquet(tmp_path / "plan.parquet")
    table = pl.read_parquet(tmp_path / "plan.parquet")
    assert table.columns == ["position", "row", "recording_id", "source", "slice_no"]
    assert table["position"].to_list() == list(range(22))
    for source, name in ((focal, "focal"), (pool, "pool")):
        mine = table.filter(source=name)
        found = mine.join(source.index, on=["row", "recording_id", "slice_no"])
        assert len(found) == len(mine) > 0
    single = EpochPlanner(focal.table, SamplingConfig(), seed=1)(0)
    single.write_parquet(tmp_path / "single.parquet")
    assert pl.read_parquet(tmp_path / "single.parquet")["source"].null_count() == 8


def test_a_condition_leaves_recordings_of_one_source_out(focal, pool):
    mix = SourceMix(
        [
            MixedSource(name="focal", source=focal, where="rating >= 2"),
            MixedSource(name="pool", source=pool),
        ]
    )
    table = mix.recordings()
    kept = focal.table.filter(pl.col("rating") >= 2)
    assert table.filter(source="focal")["recording_id"].to_list() == kept["recording_id"].to_list()
    assert mix.slice_index()["row"].to_list() == plan_all(table).rows.tolist()


def test_shared_ids_are_refused_dropped_or_renamed(focal):
    def mix(rule):
        parts = [
            MixedSource(name="focal", source=focal, where="rating < 3"),
            MixedSource(name="again", source=focal, shared_ids=rule),
        ]
        return SourceMix(parts).recordings()

    shared = focal.table.filter(pl.col("rating") < 3)["recording_id"].to_list()
    with pytest.raises(ConfigError, match=r"5 of 8 recordings of source again .*shared_ids=drop"):
        mix("refuse")
    assert mix("drop")["recording_id"].n_unique() == len(mix("drop")) == 8
    both = mix("rename")
    assert both["recording_id"].n_unique() == len(both) == 13
    again = both.filter(source="again")["recording_id"].to_list()
    assert [name for name in again if name.startswith("again/")] == [
        f"again/{name}" for name in shared
    ]


def test_sources_of_other_recipes_are_refused_with_both_values(focal, pool):
    with pytest.raises(ConfigError, match=r"focal and pool have different.*hop: 32 here, 16 there"):
        mix_of(focal=focal, pool=replace(pool, recipe=replace(SMALL, hop=16)))


def test_a_row_of_no_source_is_refused(focal):
    with pytest.raises(StoreError, match="no source of row"):
        mix_of(focal=focal).extents(np.array([7, SOURCE_ROWS + 7]))


def test_weights_default_to_one_where_any_is_given_and_to_none_where_none_is():
    plain = SourceSpec(store="a")
    assert source_weights({"a": plain, "b": plain}) == {}
    weighted = SourceSpec(store="b", weight=0.3)
    assert source_weights({"a": plain, "b": weighted}) == {"a": 1.0, "b": 0.3}


def test_a_weight_without_recordings_is_refused_and_zero_means_never(focal, pool):
    never = planner_of(mix_of(focal=focal, pool=pool), {"focal": 0.0, "pool": 1.0})
    assert (never(0).rows >= SOURCE_ROWS).all()
    with pytest.raises(ConfigError, match=r"source pool has weight 0\.3 but no recording"):
        planner_of(mix_of(focal=focal), {"focal": 1.0, "pool": 0.3})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either store= or shards="),
        ({"store": "a", "shards": "b"}, "either store= or shards="),
        ({"store": "a", "weight": -1.0}, "at least 0"),
        ({"store": "a", "weight": float("nan")}, "at least 0"),
        ({"store": "a", "shared_ids": "keep"}, "none of refuse, drop, rename"),
        ({"store": "a", "missing_targets": "keep"}, "none of refuse, drop"),
    ],
    ids=["neither", "both", "negative", "nan", "ids", "targets"],
)
def test_a_wrong_spec_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SourceSpec(**options)
