"""datasets.loading.reader: what becomes of slices that cannot be read."""

import logging
import os

import numpy as np
import pytest

from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig, plan_all
from storage.errors import DamageError
from tests.datasets.loading.test_reader import (
    eval_reader,
    prefetch_threads,
    rows_of,
    train_reader,
)
from tests.fakes import write_fake_source
from tests.shard_sets import LENGTHS, flip

BAD_ROW = 25  # rows 7-9, 17, then 25-32


@pytest.fixture
def damaged(tmp_path):
    """A source with a flipped byte in the slice of its 5th row (recording 2)."""
    source = write_fake_source(tmp_path / "cells.raw", LENGTHS, seed=1)
    flip(tmp_path / "cells.raw", 4 * source.recipe.slice_bytes + 3)
    return source


def test_a_bad_slice_stops_the_reader_and_is_named(damaged):
    with pytest.raises(DamageError, match=rf"row {BAD_ROW} .*cells.raw.*checksum"):
        list(eval_reader(damaged))
    assert not prefetch_threads()


def test_unchecked_reading_does_not_notice(damaged):
    batches = list(eval_reader(damaged, check=False))
    assert sum(len(batch.rows) for batch in batches) == sum(LENGTHS)


def test_evaluation_leaves_a_bad_slice_out_and_names_it(damaged, caplog):
    reader = eval_reader(damaged, max_bad=1)
    with caplog.at_level(logging.WARNING):
        batches = list(reader)
    rows = np.concatenate(rows_of(batches))
    assert rows.tolist() == [row for row in plan_all(damaged.table).rows if row != BAD_ROW]
    for batch in batches:
        assert np.array_equal(batch.slices.numpy(), damaged.read(batch.rows.numpy()))
    assert [(bad.row, bad.object) for bad in reader.bad] == [(BAD_ROW, damaged.url)]
    assert f"row {BAD_ROW}" in caplog.text


def test_training_puts_a_good_sample_in_place_of_a_bad_one(damaged):
    sampling = SamplingConfig(slice_choice="all")
    reader = train_reader(damaged, sampling=sampling, max_bad=1, batch_size=10)
    planned = EpochPlanner(damaged.recordings(), sampling, seed=5)(0).rows
    place = planned.tolist().index(BAD_ROW)
    batches = list(reader)
    assert [len(batch.rows) for batch in batches] == [10] * 8
    got = np.concatenate(rows_of(batches))
    assert np.flatnonzero(got != planned[:80]).tolist() == [place]
    assert got[place] in planned[place // 10 * 10 : place // 10 * 10 + 10]
    assert np.concatenate([batch.position.numpy() for batch in batches]).tolist() == list(range(80))
    for batch in batches:
        assert np.array_equal(batch.slices.numpy(), damaged.read(batch.rows.numpy()))
        first_row = damaged.table["first_row"].to_numpy()[batch.recording_no]
        assert (batch.rows.numpy() >= first_row).all()
    list(reader)
    assert len(reader.bad) == 1  # the same slice counts once


def test_too_many_bad_slices_stop_it(tmp_path):
    source = write_fake_source(tmp_path / "cells.raw", LENGTHS, seed=1)
    os.truncate(tmp_path / "cells.raw", 60 * source.recipe.slice_bytes)
    with pytest.raises(DamageError, match="more than max_bad=5"):
        list(eval_reader(source, max_bad=5))


def test_a_missing_file_is_named(tmp_path):
    source = write_fake_source(tmp_path / "cells.raw", LENGTHS, seed=1)
    (tmp_path / "cells.raw").unlink()
    with pytest.raises(DamageError, match=r"cells.raw.*missing"):
        list(eval_reader(source))
