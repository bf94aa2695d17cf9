"""Labels, soft targets, and which slices have them."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.labels import Labels
from datasets.sampling.epoch_plan import plan_all
from datasets.slice_source import SOURCE_ROWS
from datasets.sources.mix import SourceSpec
from datasets.sources.soft_targets import read_soft_sources
from datasets.targets import Targets, match_slices, read_soft_table
from storage.errors import ConfigError
from tests.fakes import fake_recordings

TABLE = fake_recordings([3, 1, 5, 2, 4])
LABELS = Labels(("a", "b", "c", "d"))
HARD = LABELS.targets(TABLE, 0.5)
PLAN = plan_all(TABLE)


def soft_frame(table=TABLE, seed=0, names=("c", "a", "d")):
    """A line for each slice, keyed by slice_no."""
    plan = plan_all(table)
    generator = np.random.default_rng(seed)
    keys = {
        "recording_id": table["recording_id"].gather(plan.planned_no),
        "slice_no": plan.rows - table["first_row"].to_numpy()[plan.planned_no],
        "row": plan.rows,
    }
    values = {f"p_{name}": generator.random(len(plan), np.float32) for name in names}
    return pl.DataFrame({**keys, **values})


def written(frame, tmp_path, name="soft.parquet"):
    frame.write_parquet(tmp_path / name)
    return str(tmp_path / name)


def targets_of(path, table=TABLE, hard=HARD):
    soft = read_soft_table(path)
    return Targets(hard, [(soft.values_of(LABELS), match_slices(soft, table))])


def expected(frame):
    """float32 [lines, C], class by name, absent classes 0."""
    columns = [
        frame[f"p_{name}"].to_numpy() if f"p_{name}" in frame.columns else np.zeros(len(frame))
        for name in LABELS.names
    ]
    return np.stack(columns, 1).astype(np.float32)


def test_without_a_file_targets_are_those_of_the_recordings():
    targets = Targets(HARD)
    assert np.array_equal(targets.of(PLAN.rows, PLAN.planned_no), HARD[PLAN.planned_no])
    assert targets.of(PLAN.rows[:0], PLAN.planned_no[:0]).shape == (0, 4)


@pytest.mark.parametrize("key", ["slice_no", "row"])
def test_each_slice_gets_its_line_in_whatever_order_the_file_is(key, tmp_path):
    frame = soft_frame()
    shuffled = frame.sample(fraction=1, shuffle=True, seed=3)
    path = written(shuffled.drop("row" if key == "slice_no" else "slice_no"), tmp_path)
    order = np.random.default_rng(1).permutation(len(PLAN))
    found = targets_of(path).of(PLAN.rows[order], PLAN.planned_no[order])
    assert found.dtype == np.float32
    assert np.array_equal(found, expected(frame)[order])


def test_rows_of_a_source_inside_a_mix_are_its_own(tmp_path):
    frame = soft_frame()
    shifted = TABLE.with_columns(pl.col("first_row") + 3 * SOURCE_ROWS)
    targets = targets_of(written(frame.drop("slice_no"), tmp_path), shifted)
    found = targets.of(PLAN.rows + 3 * SOURCE_ROWS, PLAN.planned_no)
    assert np.array_equal(found, expected(frame))


def test_a_line_for_a_recording_holds_for_all_its_slices(tmp_path):
    frame = soft_frame().unique("recording_id", maintain_order=True).drop("slice_no", "row")
    found = targets_of(written(frame, tmp_path)).of(PLAN.rows, PLAN.planned_no)
    assert np.array_equal(found, expected(frame)[PLAN.planned_no])


@given(kept=st.lists(st.booleans(), min_size=15, max_size=15), seed=st.integers(0, 99))
def test_slices_without_a_line_keep_their_labels(kept, seed, tmp_path_factory):
    frame = soft_frame(seed=seed)
    some = frame.filter(pl.Series(kept))
    if some.is_empty():
        return
    path = written(some, tmp_path_factory.mktemp("soft"))
    found = targets_of(path).of(PLAN.rows, PLAN.planned_no)
    wanted = np.where(np.array(kept)[:, None], expected(frame), HARD[PLAN.planned_no])
    assert np.array_equal(found, wanted)


def test_two_files_are_kept_apart(tmp_path):
    frames = [soft_frame(TABLE[:2], seed=1, names="ab"), soft_frame(TABLE[3:], seed=2, names="dc")]
    tables = [read_soft_table(written(frame, tmp_path, f"{n}")) for n, frame in enumerate(frames)]
    parts = [(table.values_of(LABELS), match_slices(table, TABLE)) for table in tables]
    found = Targets(HARD, parts).of(PLAN.rows, PLAN.planned_no)
    assert np.array_equal(found[:4], expected(frames[0]))
    assert np.array_equal(found[4:9], HARD[PLAN.planned_no[4:9]])
    assert np.array_equal(found[9:], expected(frames[1]))


def test_a_batch_may_be_changed_without_changing_the_targets():
    targets = Targets(HARD)
    targets.of(PLAN.rows, PLAN.planned_no)[:] = 7
    assert targets.of(PLAN.rows, PLAN.planned_no).max() <= 1


BROKEN = {
    "no keys": (lambda frame: frame.drop("recording_id"), "needs recording_id and p_"),
    "no classes": (lambda frame: frame.select("recording_id", "row"), "needs recording_id and p_"),
    "twice": (lambda frame: pl.concat([frame, frame[:1]]), "several lines for .*average"),
    "above one": (lambda frame: frame.with_columns(p_a=1.5), "between 0 and 1"),
    "not a number": (lambda frame: frame.with_columns(p_a=float("nan")), "between 0 and 1"),
    "null": (lambda frame: frame.with_columns(p_a=pl.lit(None, pl.Float32)), "between 0 and 1"),
    "text": (lambda frame: frame.with_columns(p_a=pl.lit("x")), "between 0 and 1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_none_is_refused_by_name(name, tmp_path):
    spoil, message = BROKEN[name]
    path = written(spoil(soft_frame()), tmp_path)
    with pytest.raises(ConfigError, match=rf"soft\.parquet.*{message}"):
        read_soft_table(path)


def test_a_file_that_is_missing_or_foreign_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"targets .*none\.parquet"):
        read_soft_table(str(tmp_path / "none.parquet"))
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(ConfigError, match=r"targets .*text\.parquet"):
        read_soft_table(str(tmp_path / "text.parquet"))


def test_a_file_of_another_store_is_refused(tmp_path):
    other = soft_frame().with_columns(pl.col("row") + 1000).drop("slice_no")
    with pytest.raises(ConfigError, match=r"15 lines name slices .*to another store"):
        targets_of(written(other, tmp_path))
    strangers = soft_frame().with_columns(pl.format("x{}", "recording_id").alias("recording_id"))
    with pytest.raises(ConfigError, match="none of its 15 lines"):
        targets_of(written(strangers, tmp_path))


def mixed():
    """Two sources of the same shape; the second has no labels."""
    pool = TABLE.with_columns(
        pl.format("pool {}", "recording_id").alias("recording_id"),
        pl.col("first_row") + SOURCE_ROWS,
        primary_label=pl.lit(None, pl.String),
        source=pl.lit("pool"),
    )
    return pl.concat([TABLE.with_columns(source=pl.lit("focal")), pool]), pool


def test_missing_slices_are_refused_with_counts_or_dropped(tmp_path):
    both, pool = mixed()
    frame = soft_frame(pool).drop("row").filter(~pl.col("recording_id").str.contains("take 1"))
    frame = frame.filter(~((pl.col("slice_no") == 4) & pl.col("recording_id").str.contains("2")))
    path = written(frame, tmp_path)
    specs = {"focal": SourceSpec(store="x"), "pool": SourceSpec(store="y", targets=path)}
    with pytest.raises(
        ConfigError,
        match=r"lack 2 of 15 slices of source pool, in 2 recordings such as pool take 1.*drop",
    ):
        read_soft_sources(both, specs)
    specs["pool"] = SourceSpec(store="y", targets=path, missing_targets="drop")
    soft = read_soft_sources(both, specs)
    assert soft.names == {"a", "c", "d"}
    assert soft.covered_R.tolist() == [False] * 5 + [True, False, True, True, True]
    rows = plan_all(both).rows
    lost = [SOURCE_ROWS + TABLE["first_row"][1], SOURCE_ROWS + TABLE["first_row"][2] + 4]
    assert soft.eligible.tolist() == sorted(set(rows.tolist()) - set(lost))


def test_a_whole_file_leaves_all_rows_eligible(tmp_path):
    both, pool = mixed()
    path = written(soft_frame(pool), tmp_path)
    soft = read_soft_sources(
        both, {"focal": SourceSpec(store="x"), "pool": SourceSpec(store="y", targets=path)}
    )
    assert soft.eligible is None
    hard = LABELS.targets(both, 0.5)
    plan = plan_all(both)
    found = soft.targets(hard, LABELS).of(plan.rows, plan.planned_no)
    assert np.array_equal(found[:15], HARD[PLAN.planned_no])
    assert np.array_equal(found[15:], expected(soft_frame(pool)))


AGAIN = TABLE.with_columns(
    pl.format("again/{}", "recording_id").alias("recording_id"),
    pl.col("first_row") + SOURCE_ROWS,
    own_recording_id="recording_id",
    source=pl.lit("again"),
)


def test_ids_that_were_renamed_are_found_by_the_ids_of_the_source(tmp_path):
    path = written(soft_frame(), tmp_path)
    soft = read_soft_sources(AGAIN, {"again": SourceSpec(store="x", targets=path)})
    assert soft.covered_R.all()


def test_predictions_of_a_mix_are_told_apart_by_source(tmp_path):
    """The second source has the ids of the first; only its own lines may count for it."""
    first = soft_frame(seed=1).with_columns(source=pl.lit("first"))
    second = soft_frame(seed=2).with_columns(
        pl.format("again/{}", "recording_id").alias("recording_id"), source=pl.lit("again")
    )
    path = written(pl.concat([first, second]).drop("slice_no"), tmp_path)
    soft = read_soft_sources(AGAIN, {"again": SourceSpec(store="x", targets=path)})
    found = soft.targets(HARD, LABELS).of(PLAN.rows + SOURCE_ROWS, PLAN.planned_no)
    assert np.array_equal(found, expected(second))
    path = written(first, tmp_path)
    with pytest.raises(ConfigError, match="by recording_id and source"):
        read_soft_sources(AGAIN, {"again": SourceSpec(store="x", targets=path)})
