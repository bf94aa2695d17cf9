"""datasets.loading.batch_maker: targets of single slices, and backgrounds of the samples."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig
from storage.errors import ConfigError
from tests.fakes import SMALL, write_fake_source

LENGTHS = [3, 1, 8, 2, 13, 1, 5]


@pytest.fixture
def source(tmp_path):
    return write_fake_source(tmp_path / "cells.raw", LENGTHS, seed=1)


@pytest.fixture
def noise(tmp_path):
    return write_fake_source(tmp_path / "noise.raw", [5, 6], seed=2)


class RowTargets:
    """The target of a slice is its row and its recording."""

    def of(self, rows, recording_no):
        return np.stack([rows, recording_no], 1).astype(np.float32)


class Cycle:
    """The background of a position: the slices of a source in turn, another start each epoch."""

    def __init__(self, source):
        self.source = source
        self._known = source.index["row"].to_numpy()

    def rows(self, epoch, position):
        return self._known[(position + 3 * epoch) % len(self._known)]


def reader_of(source, *, targets=None, background=None, ranks=(0, 1), **config):
    planner = EpochPlanner(source.recordings(), SamplingConfig(slices_per_recording=3), seed=5)
    return BatchReader(
        source,
        planner,
        LoaderConfig(**{"batch_size": 4, **config}),
        targets=targets,
        train=True,
        background=background,
        rank=ranks[0],
        world_size=ranks[1],
    )


def test_targets_may_differ_from_slice_to_slice(source):
    for batch in reader_of(source, targets=RowTargets()):
        expected = torch.stack([batch.rows, batch.recording_no], 1).float()
        assert torch.equal(batch.targets, expected)


@pytest.mark.parametrize("prefetch_batches", [0, 3])
def test_each_position_has_its_background(source, noise, prefetch_batches):
    background = Cycle(noise)
    reader = reader_of(source, background=background, prefetch_batches=prefetch_batches)
    reader.set_epoch(2)
    for batch in reader:
        expected = noise.read(background.rows(2, batch.position.numpy()))
        assert np.array_equal(batch.background.numpy(), expected)
        assert np.array_equal(batch.slices.numpy(), source.read(batch.rows.numpy()))


def test_backgrounds_do_not_depend_on_the_ranks(source, noise):
    def by_position(world_size, batch_size):
        return {
            place: background.numpy().tobytes()
            for rank in range(world_size)
            for batch in reader_of(
                source, background=Cycle(noise), ranks=(rank, world_size), batch_size=batch_size
            )
            for place, background in zip(batch.position.tolist(), batch.background, strict=True)
        }

    assert by_position(1, 4) == by_position(2, 2) == by_position(4, 1)


def test_backgrounds_are_read_into_used_buffers_too(source, noise):
    reader = reader_of(source, background=Cycle(noise), batch_size=1, prefetch_batches=1)
    places = {tensor.data_ptr() for batch in reader for tensor in (batch.slices, batch.background)}
    assert len(reader) == 21
    assert len(places) <= 8


def test_without_a_background_there_is_none(source):
    assert next(iter(reader_of(source))).background is None


def test_a_background_of_another_recipe_is_refused_with_both(source, tmp_path):
    recipe = replace(SMALL, n_mels=4)
    other = write_fake_source(tmp_path / "other.raw", [3], seed=1, recipe=recipe)
    with pytest.raises(ConfigError, match=r"n_mels=4.*n_mels=8"):
        reader_of(source, background=Cycle(other))


def test_a_state_of_another_background_is_refused(source, noise):
    state = reader_of(source, background=Cycle(noise)).state_dict()
    reader_of(source, background=Cycle(noise)).load_state_dict(state)
    with pytest.raises(ConfigError, match="background: fa4e then, None now"):
        reader_of(source).load_state_dict(state)
