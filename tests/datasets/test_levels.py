"""datasets.levels: the level of each slice, by its row, in any source."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from datasets.levels import Levels, level_weights
from datasets.sources.mix import MixedSource, SourceMix
from storage.errors import ConfigError, StoreError
from tests.fakes import write_fake_source


@pytest.fixture
def source(tmp_path):
    return write_fake_source(tmp_path / "cells.raw", [3, 1, 5], seed=1)


def test_levels_are_those_of_the_index_in_any_order_and_shape(source):
    rows, level = source.index["row"].to_numpy(), source.index["max_db"].to_numpy()
    found = Levels(source).of(rows[[4, 0, 8, 4]].reshape(2, 2))
    assert found.dtype == np.float32
    assert np.array_equal(found, level[[4, 0, 8, 4]].reshape(2, 2))


def test_levels_of_a_mix_are_those_of_its_sources(source, tmp_path):
    other = write_fake_source(tmp_path / "other.raw", [2, 4], seed=2)
    mix = SourceMix(
        [
            MixedSource(name="a", source=source),
            MixedSource(name="b", source=other, shared_ids="rename"),
        ]
    )
    index = mix.slice_index()
    found = Levels(mix).of(index["row"].to_numpy())
    both = pl.concat([source.index["max_db"], other.index["max_db"]])
    assert np.array_equal(found, both.to_numpy())


def test_nothing_is_read_before_it_is_asked_for_and_then_once(source):
    calls = []

    class Counting:
        url, recipe = source.url, source.recipe

        def slice_index(self, columns=None):
            calls.append(1)
            return source.index

    levels = Levels(Counting())
    assert not calls
    levels.load()
    levels.of(source.index["row"].to_numpy())
    assert len(calls) == 1


def test_a_level_takes_12_bytes_with_its_row(source):
    levels = Levels(source)
    assert sum(array.nbytes for array in levels._table) == 12 * len(source.index)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (lambda index: index.drop("max_db"), "without levels, the column max_db"),
        (
            lambda index: index.with_columns(max_db=pl.lit(None, pl.Float32)),
            r"9 of 9 slices .* without a level \(max_db\)",
        ),
    ],
)
def test_slices_without_levels_are_refused_with_the_way_out(source, index, message):
    with pytest.raises(ConfigError, match=message):
        Levels(replace(source, index=index(source.index))).load()


def test_an_unknown_row_is_refused(source):
    with pytest.raises(StoreError, match="row 1 is not in"):
        Levels(source).of(np.array([1]))


def test_levels_of_absolute_cells_are_the_ceiling_but_max_db_is_that_of_the_index(source):
    recipe = replace(source.recipe, normaliser="log", ceiling_db=20.0)
    levels = Levels(replace(source, recipe=recipe))
    rows = source.index["row"].to_numpy()
    assert (levels.of(rows) == 20).all()
    assert np.array_equal(levels.max_db(rows), source.index["max_db"].to_numpy())


def test_weights_fall_by_a_factor_e_per_scale_below_the_loudest_of_a_recording():
    level = np.array([-20.0, -5.0, -30.0, -25.0, -90.0])
    weights = level_weights(level, np.array([8, 3, 8, 3, 5]), 10.0)
    np.testing.assert_allclose(weights, [1, 1, np.exp(-1), np.exp(-2), 1])
    assert level_weights(level[:0], np.empty(0, np.int64), 10.0).shape == (0,)
