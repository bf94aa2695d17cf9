"""Any byte of any file of a shard set may change: it is found, or it changes nothing."""

import os
import shutil

import numpy as np
import pytest

from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import plan_all
from datasets.shards.format import INDEX, MANIFEST, RECORDINGS
from datasets.shards.reindex import IndexConfig, index_shards
from datasets.shards.shard_set import open_shards
from datasets.shards.verify import verify_shards
from datasets.shards.writer import write_shards
from storage.errors import StoreError
from storage.recipe import Recipe
from tests.fakes import write_fake_source
from tests.shard_sets import SMALL_SHARDS, check_holds, contents, flip, read_all

ONE = IndexConfig(workers=1)
pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A source and a set of three shards."""
    folder = tmp_path_factory.mktemp("written")
    source = write_fake_source(folder / "cells.raw", [3, 6, 1, 9, 2, 5, 4], seed=1)
    assert write_shards(source, str(folder / "shards"), SMALL_SHARDS).num_shards == 3
    return source, folder / "shards"


def attempt(call, *arguments):
    """The result of a call and None, or None and the words of its error."""
    try:
        return call(*arguments), None
    except StoreError as error:
        return None, str(error)


def check_reading(folder, source):
    """Right cells and labels, rows set aside, or an error that names a file."""
    shards, error = attempt(open_shards, str(folder))
    if error:
        assert str(folder) in error
        return
    assert shards.recordings().equals(source.recordings())
    plan = plan_all(shards.recordings())
    config = LoaderConfig(batch_size=4, max_bad=1000)
    reader = BatchReader(shards, lambda _: plan, config, targets=None, train=False)
    seen = []
    for batch in reader:
        assert np.array_equal(batch.slices.numpy(), source.read(batch.rows.numpy()))
        seen += batch.rows.tolist()
    assert sorted([*seen, *(bad.row for bad in reader.bad)]) == source.index["row"].to_list()


def is_found_by_verify(folder):
    report, error = attempt(verify_shards, str(folder), None)
    return str(folder) in error if error else bool(report.damage)


def check_indexing(folder, source):
    """From the tars alone: what the writer wrote, or an error that names a tar; which of them."""
    for name in (INDEX, RECORDINGS, MANIFEST):
        os.unlink(folder / name)
    _, error = attempt(index_shards, str(folder), Recipe(), ONE)
    if error:
        assert ".tar" in error
        return False
    shards = open_shards(str(folder))
    assert (shards.store_id, shards.recipe) == (source.store_id, source.recipe)
    assert shards.recordings().equals(source.table.select(shards.recordings().columns))
    assert shards.slice_index().equals(source.index.select(shards.slice_index().columns))
    assert np.array_equal(read_all(shards), source.cells)
    return True


def check_flips(written, tmp_path, count, seed):
    source, whole = written
    rng = np.random.default_rng(seed)
    names = sorted(contents(whole))
    indexed = []
    for number in range(count):
        folder = tmp_path / f"flip-{number}"
        shutil.copytree(whole, folder)
        path = folder / names[rng.integers(len(names))]
        flip(path, rng.integers(path.stat().st_size), rng.integers(8))
        check_reading(folder, source)
        assert is_found_by_verify(folder)
        indexed.append(check_indexing(folder, source))
        shutil.rmtree(folder)
    assert {*indexed} == {True, False}


def test_a_changed_bit_is_found_or_changes_nothing(written, tmp_path):
    check_holds(open_shards(str(written[1])), written[0])
    check_flips(written, tmp_path, 60, seed=1)


@pytest.mark.slow
def test_many_changed_bits_are_found_or_change_nothing(written, tmp_path):
    check_flips(written, tmp_path, 600, seed=2)
