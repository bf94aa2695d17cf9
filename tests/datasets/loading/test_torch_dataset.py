"""Through worker processes the batches are the reader's, in its order."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datasets.labels import Labels
from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.loading.torch_dataset import BatchDataset
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.fakes import write_fake_source
from tests.shard_sets import LENGTHS
from tests.sounds import write_source


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_fake_source(tmp_path_factory.mktemp("loader") / "cells.raw", LENGTHS, seed=1)


def reader_of(source, *, seed=5):
    return BatchReader(
        source,
        EpochPlanner(source.recordings(), SamplingConfig(slices_per_recording=3), seed=seed),
        LoaderConfig(batch_size=3, prefetch_batches=2),
        targets=Labels.of(source.recordings()).targets(source.recordings(), 0.5),
        train=True,
    )


def loader_of(dataset, num_workers, method=None, *, persistent=False):
    with warnings.catch_warnings():  # that there are fewer processors than workers
        warnings.simplefilter("ignore")
        return DataLoader(
            dataset,
            batch_size=None,
            num_workers=num_workers,
            multiprocessing_context=method,
            persistent_workers=persistent,
        )


def iterate(loader):
    with warnings.catch_warnings():  # of forking with threads
        warnings.simplefilter("ignore")
        yield from loader


def assert_same(batches, expected):
    batches, expected = list(batches), list(expected)
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        for name in ("slices", "targets", "rows", "recording_no", "position", "epoch"):
            assert torch.equal(getattr(batch, name), getattr(other, name)), name


@pytest.mark.parametrize(
    ("num_workers", "method"),
    [(0, None), (1, "fork"), (2, "fork"), (4, "fork")],
)
def test_batches_are_the_readers_in_its_order(source, num_workers, method):
    dataset = BatchDataset(reader_of(source))
    loader = loader_of(dataset, num_workers, method)
    assert len(loader) == len(dataset) == 12
    expected = reader_of(source)
    for epoch in (1, 0):
        dataset.set_epoch(epoch)
        expected.set_epoch(epoch)
        assert_same(iterate(loader), expected)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_persistent_workers_see_the_epoch(source, method):
    dataset = BatchDataset(reader_of(source))
    loader = loader_of(dataset, 2, method, persistent=True)
    expected = reader_of(source)
    for epoch in (0, 3, 3):
        dataset.set_epoch(epoch)
        expected.set_epoch(epoch)
        assert_same(iterate(loader), expected)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_cut_short_goes_on(source, num_workers):
    dataset = BatchDataset(reader_of(source))
    dataset.set_epoch(2, first_batch=7)
    expected = reader_of(source)
    expected.set_epoch(2)
    assert_same(
        iterate(loader_of(dataset, num_workers, "fork" if num_workers else None)),
        list(expected)[7:],
    )


def test_more_workers_than_batches(source):
    dataset = BatchDataset(reader_of(source))
    dataset.set_epoch(0, first_batch=10)
    assert_same(iterate(loader_of(dataset, 4, "fork")), list(reader_of(source))[10:])


def test_a_reader_of_a_store_can_be_sent_to_another_process(tmp_path):
    """Even one that has files open and an iteration under way."""
    written = write_source(tmp_path / "source", [3, 8, 5], np.random.default_rng(2))
    recipe = Recipe(sample_rate_hz=8000, fmax_hz=4000, slice_s=2.0, n_mels=16)
    build_store(
        SourceConfig(root=str(written)), recipe, str(tmp_path / "store"), BuildConfig(workers=1)
    )
    with open_store(str(tmp_path / "store")) as store:
        store.read(store.slice_index()["row"].to_numpy()[:1])
        reader = reader_of(store)
        under_way = iter(reader)
        next(under_way)
        copy = pickle.loads(pickle.dumps(reader))
        assert_same(copy, reader_of(store))
        under_way.close()
