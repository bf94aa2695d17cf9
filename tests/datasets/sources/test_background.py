"""datasets.sources.background: the background of each sample, and its delivery by the reader."""

from dataclasses import replace

import numpy as np
import pytest

from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig, plan_all
from datasets.sources.background import BackgroundConfig, BackgroundPlan
from storage.errors import ConfigError
from tests.fakes import SMALL, write_fake_source

POSITIONS = np.arange(6000)


@pytest.fixture
def noise(tmp_path):
    return write_fake_source(tmp_path / "noise.raw", [1, 40, 3, 9], seed=5)


def test_each_recording_is_equally_likely_and_each_of_its_slices(noise):
    rows = BackgroundPlan(noise, seed=1).rows(0, POSITIONS)
    assert rows.dtype == np.int64
    assert set(rows) == set(noise.index["row"])
    places = np.searchsorted(noise.table["first_row"].to_numpy(), rows, side="right") - 1
    np.testing.assert_allclose(np.bincount(places) / 6000, 0.25, atol=0.02)
    of_last = np.bincount(rows[places == 3] - noise.table["first_row"][3])
    np.testing.assert_allclose(of_last / of_last.sum(), 1 / 9, atol=0.03)


def test_it_depends_on_seed_epoch_and_position_alone(noise):
    plan = BackgroundPlan(noise, seed=1)
    rows = plan.rows(2, POSITIONS)
    some = np.array([5, 17, 3])
    assert plan.rows(2, some).tolist() == rows[some].tolist()
    assert BackgroundPlan(noise, seed=1).rows(2, POSITIONS).tolist() == rows.tolist()
    assert (plan.rows(3, POSITIONS) != rows).mean() > 0.5
    assert (BackgroundPlan(noise, seed=2).rows(2, POSITIONS) != rows).mean() > 0.5


def test_a_condition_leaves_recordings_out(noise):
    rows = BackgroundPlan(noise, seed=1, where="num_slices > 5").rows(0, POSITIONS)
    places = np.searchsorted(noise.table["first_row"].to_numpy(), rows, side="right") - 1
    assert set(places) == {1, 3}
    with pytest.raises(ConfigError, match="none of 4 recordings"):
        BackgroundPlan(noise, seed=1, where="num_slices > 500")


def test_the_reader_puts_it_beside_each_sample(noise, tmp_path):
    source = write_fake_source(tmp_path / "cells.raw", [3, 1, 5, 2, 4, 6, 1, 2], seed=1)
    planner = EpochPlanner(source.table, SamplingConfig(slices_per_recording=3), seed=1)
    plan = BackgroundPlan(noise, seed=1)
    reader = BatchReader(
        source, planner, LoaderConfig(batch_size=5), targets=None, train=True, background=plan
    )
    reader.set_epoch(3)
    for batch in reader:
        rows = plan.rows(3, batch.position.numpy())
        assert np.array_equal(batch.background.numpy(), noise.read(rows))
        assert np.array_equal(batch.slices.numpy(), source.read(batch.rows.numpy()))


def test_a_background_of_another_recipe_is_refused(noise, tmp_path):
    source = write_fake_source(tmp_path / "cells.raw", [3, 1], seed=1)
    other = BackgroundPlan(replace(noise, recipe=replace(SMALL, hop=16)), seed=1)
    with pytest.raises(ConfigError, match="background"):
        BatchReader(
            source,
            lambda _: plan_all(source.table),
            LoaderConfig(),
            targets=None,
            train=False,
            background=other,
        )


def test_a_background_is_a_store_or_shards():
    assert not BackgroundConfig().given
    assert BackgroundConfig(store="x").given
    with pytest.raises(ConfigError, match="one of the two"):
        BackgroundConfig(store="x", shards="y")
