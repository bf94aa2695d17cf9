"""datasets.loading.quarantine: what fails for a moment is read again, what stays bad is named."""

import logging
import os
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datasets.loading.quarantine import BadSlice, CarefulReader, look_up, write_report
from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig, plan_all
from storage.errors import DamageError, StoreError
from tests.fakes import write_fake_source
from tests.shard_sets import flip

LENGTHS = [3, 1, 8, 2, 13]


@pytest.fixture
def source(tmp_path):
    return write_fake_source(tmp_path / "cells.raw", LENGTHS, seed=1)


def spoil(source, places):
    """Flips a byte of the slices at these places."""
    for place in places:
        flip(Path(source.url), place * source.recipe.slice_bytes + 3)


def read_all(source, *, max_bad=0, bad=None):
    rows = source.index["row"].to_numpy()
    cells = np.empty((len(rows), *source.recipe.slice_shape), source.recipe.dtype)
    bad = [] if bad is None else bad
    with CarefulReader(check=True, max_bad=max_bad, bad=bad) as reader:
        return reader.read_rows(source.extents(rows), rows, cells), cells


def test_a_file_that_is_away_for_a_moment_costs_nothing(source, tmp_path):
    away = tmp_path / "away"
    os.rename(source.url, away)
    back = threading.Timer(0.3, os.rename, (away, source.url))
    back.start()
    good, cells = read_all(source)
    back.join()
    assert good.all()
    assert np.array_equal(cells, source.cells)


def test_a_file_put_anew_is_opened_anew(source, tmp_path):
    """Not read again through the descriptor of the damaged one."""
    sound = tmp_path / "sound"
    sound.write_bytes(source.cells.tobytes())
    spoil(source, [4, 5])
    rows = source.index["row"].to_numpy()
    cells = np.empty((len(rows), *source.recipe.slice_shape), np.uint8)
    with CarefulReader(check=True, max_bad=0, bad=[]) as reader:
        assert reader.read_rows(source.extents(rows[:4]), rows[:4], cells[:4]).all()  # now open
        os.replace(sound, source.url)
        assert reader.read_rows(source.extents(rows), rows, cells).all()
    assert np.array_equal(cells, source.cells)


class Absent:
    """A source whose index cannot be read the first few times."""

    def __init__(self, source, failures):
        self.failures = failures
        self._source = source

    def extents(self, rows):
        self.failures -= 1
        if self.failures >= 0:
            raise StoreError("the index cannot be read")
        return self._source.extents(rows)


def test_a_source_that_cannot_answer_is_asked_again(source):
    rows = source.index["row"].to_numpy()[[5, 2]]
    found = look_up(Absent(source, 3), rows)
    assert found.offset.tolist() == source.extents(rows).offset.tolist()
    with pytest.raises(StoreError, match="the index cannot be read"):
        look_up(Absent(source, 4), rows)


def test_damage_that_stays_is_waited_for_once_in_each_file(source, monkeypatch):
    spoil(source, range(20))
    bad, waits_s = [], []
    monkeypatch.setattr(time, "sleep", waits_s.append)
    for _ in range(3):
        good, _ = read_all(source, max_bad=20, bad=bad)
        assert good.tolist() == [False] * 20 + [True] * 7
    assert sum(waits_s) == pytest.approx(1.1)  # not 3.3
    assert len(bad) == 20


def test_too_many_stay_too_many(source):
    spoil(source, [1, 2])
    bad = []
    for _ in range(2):  # the second time both are known
        with pytest.raises(DamageError, match="2 bad slices, more than max_bad=1"):
            read_all(source, max_bad=1, bad=bad)
    assert len(bad) == 2


def test_each_bad_slice_is_logged_once(source, caplog):
    spoil(source, [1])
    bad = []
    with caplog.at_level(logging.WARNING):
        read_all(source, max_bad=1, bad=bad)
        read_all(source, max_bad=1, bad=bad)
    row = source.index["row"][1]
    assert [record.getMessage() for record in caplog.records] == [
        f"left out: row {row} in {source.url} at byte {source.recipe.slice_bytes}: "
        "the checksum differs: bytes have changed since they were written"
    ]


def test_the_report_is_a_table_of_what_was_left_out(tmp_path):
    bad = [BadSlice(row=2**40, object="a.tar", offset=512, reason="the checksum differs")]
    write_report(bad, tmp_path / "bad.parquet")
    table = pl.read_parquet(tmp_path / "bad.parquet")
    assert table.rows(named=True) == [
        {"row": 2**40, "object": "a.tar", "offset": 512, "reason": "the checksum differs"}
    ]
    write_report([], tmp_path / "none.parquet")
    assert pl.read_parquet(tmp_path / "none.parquet").schema == table.schema


def train_reader(source, **config):
    planner = EpochPlanner(source.recordings(), SamplingConfig(slice_choice="all"), seed=5)
    return BatchReader(source, planner, LoaderConfig(**config), targets=None, train=True)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_training_goes_on_where_a_whole_batch_is_bad(source, batch_size):
    """Samples further on in the plan stand in, so that no rank has a batch less."""
    plan = EpochPlanner(source.recordings(), SamplingConfig(slice_choice="all"), seed=5)(0)
    spoilt = plan.rows[4:8].tolist()
    rows = source.index["row"].to_list()
    spoil(source, [rows.index(row) for row in spoilt])
    reader = train_reader(source, batch_size=batch_size, max_bad=4)
    batches = list(reader)
    got = np.concatenate([batch.rows.numpy() for batch in batches])
    assert len(got) == len(reader) * batch_size
    assert not set(got.tolist()) & set(spoilt)
    assert np.flatnonzero(got != plan.rows[: len(got)]).tolist() == [4, 5, 6, 7]
    for batch in batches:
        assert np.array_equal(batch.slices.numpy(), source.read(batch.rows.numpy()))
    assert sorted(one.row for one in reader.bad) == sorted(spoilt)


def test_training_stops_where_nothing_can_be_read(source):
    spoil(source, range(sum(LENGTHS)))
    with pytest.raises(DamageError, match=r"no slice of .* can be read"):
        next(iter(train_reader(source, batch_size=2, max_bad=100)))


def test_evaluation_leaves_out_a_batch_that_is_bad_as_a_whole(source):
    spoil(source, [4])
    reader = BatchReader(
        source,
        lambda _: plan_all(source.recordings()),
        LoaderConfig(batch_size=1, max_bad=1),
        targets=None,
        train=False,
    )
    rows = [batch.rows.tolist() for batch in reader]
    expected = [[row] for row in source.index["row"]]
    expected[4] = []
    assert rows == expected


def test_a_bad_background_is_replaced_by_a_good_one(source, tmp_path):
    noise = write_fake_source(tmp_path / "noise.raw", [4], seed=2)
    spoil(noise, [1])
    first = noise.index["row"][0]

    class Background:
        source = noise

        def rows(self, epoch, position):
            return first + position % 4

    planner = EpochPlanner(source.recordings(), SamplingConfig(slice_choice="all"), seed=5)
    reader = BatchReader(
        source,
        planner,
        LoaderConfig(batch_size=4, max_bad=1),
        targets=None,
        train=True,
        background=Background(),
    )
    batch = next(iter(reader))
    assert np.array_equal(batch.background.numpy(), noise.cells[[0, 0, 2, 3]])
    assert batch.rows.tolist() == planner(0).rows[:4].tolist()
    assert [(one.object, one.row) for one in reader.bad] == [(noise.url, first + 1)]
