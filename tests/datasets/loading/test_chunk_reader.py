"""Chunks in the reader: cells, levels and targets of samples of several slices."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.chunks import PADDINGS, Chunks
from datasets.levels import Levels
from datasets.loading import quarantine
from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig, plan_all
from datasets.sources.background import BackgroundPlan
from datasets.targets import SoftSlices, Targets
from storage.errors import ConfigError, DamageError
from storage.objects.retry import RetryPolicy
from tests.fakes import SMALL, write_fake_source
from tests.shard_sets import flip

LENGTHS = [3, 1, 8, 2, 13, 1, 5, 4, 7]
RECIPE = replace(SMALL, slice_step_s=0.25)
CHUNKS = Chunks(count=3, step=2)
FRAMES = RECIPE.num_frames


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Reads again at once: damage stays, and the tests need not wait for that."""
    monkeypatch.setattr(quarantine, "POLICY", RetryPolicy(reread_after_s=(0.0,)))


@pytest.fixture
def source(tmp_path):
    return write_fake_source(tmp_path / "cells.raw", LENGTHS, seed=1, recipe=RECIPE)


def reader_of(source, *, chunks=CHUNKS, train=True, ranks=(0, 1), accumulation=1, **options):
    names = ("batch_size", "prefetch_batches", "max_bad", "remainder")
    config = {name: options.pop(name) for name in names if name in options}
    if train:
        planner = EpochPlanner(source.recordings(), SamplingConfig(slices_per_recording=3), seed=5)
    else:
        plan = plan_all(source.recordings())
        planner = lambda _: plan  # noqa: E731 - a plan that every epoch has
    return BatchReader(
        source,
        planner,
        LoaderConfig(**{"batch_size": 4, "remainder": "wrap", **config}),
        targets=options.pop("targets", None),
        train=train,
        chunks=chunks,
        levels=Levels(source),
        rank=ranks[0],
        world_size=ranks[1],
        accumulation=accumulation,
        **options,
    )


def expected_of(source, rows, chunks=CHUNKS):
    """Joined cells [B, M, K * T] and levels [B, K] of the chunks of rows, by a plain loop."""
    table, level = source.table, dict(source.index.select("row", "max_db").iter_rows())
    cells = np.zeros((len(rows), RECIPE.n_mels, chunks.count * FRAMES), np.uint8)
    levels = np.full((len(rows), chunks.count), -np.inf, np.float32)
    for number, row in enumerate(rows.tolist()):
        (recording,) = table.filter(
            (table["first_row"] <= row) & (row < table["first_row"] + table["num_slices"])
        ).iter_rows(named=True)
        first = np.array([recording["first_row"]])
        found, present = chunks.rows(np.array([row]), first, first + recording["num_slices"])
        for place in range(chunks.count):
            if present[0, place]:
                frames = slice(place * FRAMES, (place + 1) * FRAMES)
                cells[number, :, frames] = source.read(found[0, place : place + 1])[0]
                levels[number, place] = level[found[0, place]]
    return cells, levels


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("prefetch_batches", [0, 3])
def test_a_sample_is_its_chunk_as_stored_with_the_levels_of_its_slices(
    source, padding, prefetch_batches
):
    chunks = replace(CHUNKS, padding=padding)
    for batch in reader_of(source, chunks=chunks, prefetch_batches=prefetch_batches):
        cells, levels = expected_of(source, batch.rows.numpy(), chunks)
        assert batch.slices.dtype == torch.uint8
        assert np.array_equal(batch.slices.numpy(), cells)
        assert np.array_equal(batch.levels.numpy(), levels)


def test_in_evaluation_every_row_has_one_chunk(source):
    batches = list(reader_of(source, train=False))
    rows = torch.cat([batch.rows for batch in batches]).numpy()
    assert np.array_equal(rows, source.index["row"].to_numpy())
    cells, _ = expected_of(source, rows)
    assert np.array_equal(torch.cat([batch.slices for batch in batches]).numpy(), cells)


def by_position(source, world_size, batch_size, **options):
    """All tensors of each sample of an epoch, over all ranks."""
    found = {}
    for rank in range(world_size):
        reader = reader_of(
            source, ranks=(rank, world_size), batch_size=batch_size, accumulation=1, **options
        )
        for batch in reader:
            for place, position in enumerate(batch.position.tolist()):
                tensors = (batch.rows, batch.slices, batch.levels, batch.targets)
                found[position] = b"".join(one[place].numpy().tobytes() for one in tensors)
    return found


def test_samples_do_not_depend_on_the_number_of_ranks(source):
    targets = np.random.default_rng(0).random((len(LENGTHS), 4), np.float32)
    alone = by_position(source, 1, 6, targets=targets)
    assert len(alone) == 30
    assert by_position(source, 2, 3, targets=targets) == alone
    assert by_position(source, 3, 2, targets=targets) == alone


def test_an_epoch_goes_on_in_its_middle_and_not_with_other_chunks(source):
    whole = [batch.slices.numpy().tobytes() for batch in reader_of(source)]
    reader = reader_of(source)
    for _ in zip(range(3), reader, strict=False):
        pass
    state = reader.state_dict()
    again = reader_of(source)
    again.load_state_dict(state)
    assert [batch.slices.numpy().tobytes() for batch in again] == whole[3:]
    other = reader_of(source, chunks=Chunks(count=2, step=2))
    with pytest.raises(ConfigError, match="chunk: 3 slices, padding left then, 2 slices"):
        other.load_state_dict(state)
    assert "chunk" not in reader_of(source, chunks=Chunks()).state_dict()["inputs"]


def test_a_reader_goes_to_another_process_with_its_levels(source):
    reader = reader_of(source)
    first = next(iter(reader)).slices
    assert torch.equal(next(iter(pickle.loads(pickle.dumps(reader)))).slices, first)


def test_single_slices_are_read_as_ever_without_a_look_at_levels(source):
    def refuse():
        raise AssertionError("the slice index must not be read")

    class Blind:
        def __getattr__(self, name):
            return refuse if name == "slice_index" else getattr(source, name)

    plain = BatchReader(
        Blind(),
        EpochPlanner(source.recordings(), SamplingConfig(), seed=5),
        LoaderConfig(batch_size=3),
        targets=None,
        train=True,
    )
    for batch in plain:
        assert batch.levels is None
        assert batch.partner is None
        assert np.array_equal(batch.slices.numpy(), source.read(batch.rows.numpy()))


def spoil(source, row):
    """Changes a byte of a slice on disk."""
    place = int(np.searchsorted(source.index["row"].to_numpy(), row))
    flip(Path(source.url), place * RECIPE.slice_bytes + 5)


def test_a_chunk_with_a_bad_slice_is_a_bad_one(source):
    """The third slice of the recording of 8: part of the chunks of its rows 0 and 2."""
    first = int(source.table["first_row"][2])
    spoil(source, first + 2)
    with pytest.raises(DamageError, match=f"row {first + 2} in"):
        list(reader_of(source))
    reader = reader_of(source, train=False, max_bad=1)
    rows = torch.cat([batch.rows for batch in reader]).tolist()
    left_out = set(source.index["row"].to_list()) - set(rows)
    assert left_out == {first, first + 2}
    assert [bad.row for bad in reader.bad] == [first + 2]
    for batch in reader_of(source, max_bad=1):  # in training others take their places
        cells, levels = expected_of(source, batch.rows.numpy())
        assert np.array_equal(batch.slices.numpy(), cells)
        assert np.array_equal(batch.levels.numpy(), levels)
        assert not {first, first + 2} & set(batch.rows.tolist())


def test_backgrounds_are_chunks_too(source, tmp_path):
    noise = write_fake_source(tmp_path / "noise.raw", [2, 9], seed=2, recipe=RECIPE)
    plan = BackgroundPlan(noise, seed=1)
    for batch in reader_of(source, background=plan):
        cells, levels = expected_of(noise, plan.rows(0, batch.position.numpy()))
        assert np.array_equal(batch.background.numpy(), cells)
        assert np.array_equal(batch.background_levels.numpy(), levels)


def test_a_transform_sees_slices_that_are_joined_already(source):
    seen = []

    def note(slices, *, epoch, position):
        seen.append(slices.copy())

    for batch in reader_of(source, transform=note, prefetch_batches=0):
        cells, levels = expected_of(source, batch.rows.numpy())
        drop = np.repeat(levels - levels.max(1, keepdims=True), FRAMES, axis=1)[:, None] / 80
        expected = np.clip(cells / 255 + drop, 0, 1) * 255
        assert np.abs(seen[-1] - expected).max() <= 0.5 + 1e-3
        assert (batch.levels == batch.levels[:, :1]).all()


def test_soft_targets_of_a_chunk_are_the_largest_of_its_slices_but_no_call_the_smallest():
    hard = np.array([[1, 0, 0]], np.float32)
    values = np.array([[0.2, 0.7, 0.5], [0.6, 0.1, 0.9]], np.float32)
    slices = SoftSlices(rows=np.array([10, 12]), line=np.array([0, 1], np.int32))
    rows = np.array([[10, 12, 14], [10, 12, 14], [14, 14, 14]])
    present = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1]], bool)
    numbers = np.zeros(3, np.int64)
    found = Targets(hard, [(values, slices)]).of_chunks(rows, present, numbers)
    np.testing.assert_allclose(found, [[1, 0.7, 0.9], [0.6, 0.7, 0.9], [1, 0, 0]])
    found = Targets(hard, [(values, slices)], no_call=2).of_chunks(rows, present, numbers)
    np.testing.assert_allclose(found, [[1, 0.7, 0], [0.6, 0.7, 0.5], [1, 0, 0]])
    assert np.array_equal(Targets(hard).of_chunks(rows, present, numbers), hard[numbers])
