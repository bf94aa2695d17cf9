"""datasets.sources.teacher: embeddings by row, what is refused, and delivery by the reader."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig, plan_all
from datasets.slice_source import SOURCE_ROWS
from datasets.sources.mix import MixedSource, SourceMix
from datasets.sources.teacher import METADATA, TeacherFiles, read_teacher
from storage.errors import ConfigError
from tests.fakes import write_fake_source

WIDTH = 4


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_fake_source(
        tmp_path_factory.mktemp("source") / "cells.raw", [3, 1, 5, 2, 4], seed=1
    )


def values_of(source, seed=0, width=WIDTH):
    """An embedding of each slice, float32 [slices, width]."""
    return np.random.default_rng(seed).normal(size=(len(source.index), width)).astype(np.float32)


def frame_of(source, values):
    keys = source.index.select("recording_id", "slice_no", "row")
    return keys.with_columns(embedding=pl.Series(values).arr.to_list())


def written(frame, tmp_path, name="embeddings.parquet", **metadata):
    frame.write_parquet(tmp_path / name, metadata=metadata or None)
    return str(tmp_path / name)


def teacher_of(source, path, **options):
    table = source.recordings()
    return read_teacher(
        source, table, plan_all(table).rows, TeacherFiles(embeddings=path, **options)
    )


@pytest.mark.parametrize("key", ["slice_no", "row"])
@pytest.mark.parametrize("memory", ["float32", "float16"])
def test_each_slice_gets_its_line_in_whatever_order_the_file_is(source, tmp_path, key, memory):
    values = values_of(source)
    frame = frame_of(source, values).select("recording_id", key, "embedding")
    path = written(frame.sample(fraction=1, shuffle=True, seed=3), tmp_path)
    teacher = teacher_of(source, path, memory=memory)
    order = np.random.default_rng(1).permutation(len(values))
    found = teacher.of(source.index["row"].to_numpy()[order])
    assert (found.dtype, teacher.width) == (np.float32, WIDTH)
    assert np.array_equal(found, values[order].astype(memory).astype(np.float32))


def test_a_line_for_a_recording_holds_for_all_its_slices(source, tmp_path):
    frame = frame_of(source, values_of(source)).unique("recording_id", keep="first")
    teacher = teacher_of(source, written(frame.drop("slice_no", "row"), tmp_path))
    by_id = dict(frame.select("recording_id", "embedding").iter_rows())
    wanted = np.array([by_id[name] for name in source.index["recording_id"]], np.float32)
    assert np.array_equal(teacher.of(source.index["row"].to_numpy()), wanted)


def test_a_sample_of_several_slices_has_the_mean_of_those_that_have_one(source, tmp_path):
    values = values_of(source)
    values[1, 2] = np.inf
    rows = source.index["row"].to_numpy()
    teacher = teacher_of(source, written(frame_of(source, values), tmp_path), missing="skip")
    samples = np.array([[rows[4], rows[5]], [rows[0], rows[1]], [rows[1], -1]])
    found = teacher.of(samples)
    np.testing.assert_allclose(found[0], (values[4] + values[5]) / 2, rtol=1e-6)
    np.testing.assert_allclose(found[1], values[0], rtol=1e-6)
    assert np.isnan(found[2]).all()
    assert found.dtype == np.float32


def test_lines_that_are_missing_null_or_no_number_are_refused_with_counts_or_skipped(
    source, tmp_path
):
    values = values_of(source)
    values[4] = np.nan
    frame = frame_of(source, values)
    gone = pl.int_range(pl.len())
    frame = frame.with_columns(pl.when(gone != 6).then("embedding")).filter(gone != 9)
    path = written(frame, tmp_path)
    with pytest.raises(
        ConfigError, match=r"3 of 15 slices .* the first in take 2.*teacher\.missing=skip"
    ):
        teacher_of(source, path)
    found = teacher_of(source, path, missing="skip").of(source.index["row"].to_numpy())
    lacking = np.isnan(found).all(1)
    assert lacking.nonzero()[0].tolist() == [4, 6, 9]
    assert np.array_equal(found[~lacking], values[~lacking])


def test_slices_that_are_not_learned_from_need_none(source, tmp_path):
    table = source.table[:2]
    path = written(frame_of(source, values_of(source))[:4], tmp_path)
    files = TeacherFiles(embeddings=path)
    assert read_teacher(source, table, plan_all(table).rows, files).width == WIDTH


def test_the_digest_is_of_the_embeddings_and_not_of_the_file(source, tmp_path):
    values = values_of(source)
    first = teacher_of(source, written(frame_of(source, values), tmp_path)).digest
    frame = frame_of(source, values).reverse().drop("slice_no")
    assert teacher_of(source, written(frame, tmp_path)).digest == first
    values[7, 1] += 1e-3
    assert teacher_of(source, written(frame_of(source, values), tmp_path)).digest != first


BROKEN = {
    "no embedding": (lambda frame: frame.drop("embedding"), "needs recording_id and embedding"),
    "no ids": (lambda frame: frame.drop("recording_id"), "needs recording_id and embedding"),
    "twice": (lambda frame: pl.concat([frame, frame[:1]]), "several lines for"),
    "text": (lambda frame: frame.with_columns(embedding=pl.lit("x")), "not numbers"),
    "lengths": (
        lambda frame: frame.with_columns(pl.col("embedding").list.head(pl.col("slice_no") + 1)),
        "embeddings of 4 lengths",
    ),
    "no number": (
        lambda frame: frame.with_columns(embedding=pl.lit([float("nan")])),
        "no finite embedding",
    ),
    "other rows": (
        lambda frame: frame.drop("slice_no").with_columns(pl.col("row") + 1000),
        "to another store",
    ),
    "strangers": (
        lambda frame: frame.with_columns(pl.format("x{}", "recording_id").alias("recording_id")),
        "none of its 15 lines",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_none_is_refused_by_key_and_name(source, tmp_path, name):
    spoil, message = BROKEN[name]
    path = written(spoil(frame_of(source, values_of(source))), tmp_path)
    with pytest.raises(ConfigError, match=rf"teacher\.embeddings=.*parquet.*{message}") as caught:
        teacher_of(source, path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_of_another_store_is_refused(source, tmp_path):
    with pytest.raises(ConfigError, match=r"teacher\.embeddings=none\.parquet"):
        teacher_of(source, "none.parquet")
    frame = frame_of(source, values_of(source))
    path = written(frame, tmp_path, **{METADATA: '{"store_id": "beef"}'})
    with pytest.raises(ConfigError, match=r"store beef, but .* is fa4e: embed the slices"):
        teacher_of(source, path)
    assert teacher_of(replace(source, store_id="beef"), path).width == WIDTH


def test_values_beyond_float16_are_not_held_in_it(source, tmp_path):
    path = written(frame_of(source, values_of(source) * 1e6), tmp_path)
    with pytest.raises(ConfigError, match=r"set teacher\.memory=float32"):
        teacher_of(source, path, memory="float16")


def test_sources_of_a_mix_have_files_of_their_own(source, tmp_path):
    parts = [MixedSource(name="first", source=source)]
    parts.append(MixedSource(name="again", source=source, shared_ids="rename"))
    mix, values = SourceMix(parts), [values_of(source, seed) for seed in (1, 2)]
    paths = [
        written(frame_of(source, one).drop("slice_no"), tmp_path, f"{number}.parquet")
        for number, one in enumerate(values)
    ]
    table = mix.recordings()
    rows = source.index["row"].to_numpy()
    files = TeacherFiles(sources={"again": paths[1], "first": paths[0]})
    teacher = read_teacher(mix, table, plan_all(table).rows, files)
    assert np.array_equal(teacher.of(rows), values[0])
    assert np.array_equal(teacher.of(rows + SOURCE_ROWS), values[1])
    with pytest.raises(ConfigError, match=r"several sources.*teacher\.sources\.NAME="):
        read_teacher(mix, table, plan_all(table).rows, TeacherFiles(embeddings=paths[0]))
    wide = written(frame_of(source, values_of(source, width=7)), tmp_path, "wide.parquet")
    files = TeacherFiles(sources={"first": paths[0], "again": wide})
    with pytest.raises(ConfigError, match=r"of one length: 4 in .*, 7 in "):
        read_teacher(mix, table, plan_all(table).rows, files)
    with pytest.raises(ConfigError, match="give either"):
        TeacherFiles(embeddings="a.parquet", sources={"first": "b.parquet"})


def readers(source, teacher, world_size, batch_size):
    planner = EpochPlanner(source.table, SamplingConfig(slices_per_recording=3), seed=1)
    return [
        BatchReader(
            source,
            planner,
            LoaderConfig(batch_size=batch_size),
            targets=None,
            train=True,
            teacher=teacher,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]


def test_the_reader_puts_it_beside_each_sample_on_any_number_of_ranks(source, tmp_path):
    values = values_of(source)
    teacher = teacher_of(source, written(frame_of(source, values), tmp_path))
    (alone,) = readers(source, teacher, 1, 4)
    whole = [batch.teacher.numpy() for batch in alone]
    for batch, found in zip(alone, whole, strict=True):
        places = np.searchsorted(source.index["row"].to_numpy(), batch.rows.numpy())
        assert np.array_equal(found, values[places])
    together = zip(*readers(source, teacher, 2, 2), strict=True)
    for found, ranks in zip(whole, together, strict=True):
        assert np.array_equal(np.concatenate([batch.teacher.numpy() for batch in ranks]), found)


def test_a_state_is_not_resumed_with_other_embeddings(source, tmp_path):
    values = values_of(source)
    first = teacher_of(source, written(frame_of(source, values), tmp_path))
    other = teacher_of(source, written(frame_of(source, values + 1), tmp_path))
    (reader,), (changed,), (without,) = (
        readers(source, teacher, 1, 4) for teacher in (first, other, None)
    )
    state = reader.state_dict()
    assert state["inputs"]["teacher"] == first.digest
    assert "teacher" not in without.state_dict()["inputs"]
    reader.load_state_dict(state)
    with pytest.raises(ConfigError, match=r"teacher: \w+ then, \w+ now"):
        changed.load_state_dict(state)
    with pytest.raises(ConfigError, match=r"teacher: None then, \w+ now"):
        reader.load_state_dict(without.state_dict())
