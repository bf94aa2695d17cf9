"""A store and the shards written from it are the same thing to a training."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset

from datasets.epoch_plan import EpochPlanner, SamplingConfig, plan_all
from datasets.labels import Labels
from datasets.reader import BatchReader, LoaderConfig
from datasets.shard_index import open_shards
from datasets.shard_writer import ShardConfig, write_shards
from storage.build import BuildConfig, build_store
from storage.recipe import Recipe
from storage.source import SourceConfig
from storage.store import open_store
from tests.sounds import write_source

SAMPLINGS = [
    SamplingConfig(balance="sqrt", slices_per_recording=2),
    SamplingConfig(slice_choice="all", order="block", block_rows=16),
    SamplingConfig(slice_choice="energy", rating_weights={"0": 0.5}),
]


def build(root, url, **options):
    build_store(SourceConfig(root=str(root)), Recipe(), str(url), BuildConfig(workers=1), **options)
    return str(url)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A store of synthesised recordings and its shards."""
    folder = tmp_path_factory.mktemp("pair")
    seconds = [3, 12, 5, 7.6, 21, 4, 9, 16]
    root = write_source(folder / "source", seconds, np.random.default_rng(1))
    store = open_store(build(root, folder / "store"))
    write_shards(store, str(folder / "shards"), ShardConfig(shard_size_bytes=400_000))
    with store:
        yield store, open_shards(str(folder / "shards"))


@pytest.fixture
def esc10_pair(real_data, tmp_path):
    """40 recordings of ESC-10 as a store and as shards."""
    url = build(real_data("esc10"), tmp_path / "store", limit=40)
    with open_store(url) as store:
        write_shards(store, str(tmp_path / "shards"), ShardConfig(shard_size_bytes=500_000))
        yield store, open_shards(str(tmp_path / "shards"))


def batches_of(source, sampling, *, epoch):
    table = source.recordings()
    planner = EpochPlanner(table, sampling, seed=3, slice_index=source.slice_index())
    targets = Labels.of(table).targets(table, 0.5)
    config = LoaderConfig(batch_size=4, remainder="wrap")
    reader = BatchReader(source, planner, config, targets=targets, train=True)
    reader.set_epoch(epoch)
    return list(reader)


def check_equal(one, other, sampling):
    for epoch in (0, 3):
        ours = batches_of(one, sampling, epoch=epoch)
        theirs = batches_of(other, sampling, epoch=epoch)
        assert len(ours) == len(theirs) > 1
        for mine, yours in zip(ours, theirs, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, yours, strict=True))
        assert np.concatenate([batch.slices.numpy() for batch in ours]).std() > 10


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["balance", "all in blocks", "energy"])
def test_equal_plans_give_equal_batches(pair, sampling):
    check_equal(*pair, sampling)


def test_equal_plans_give_equal_batches_on_real_recordings(esc10_pair):
    check_equal(*esc10_pair, SAMPLINGS[0])


def test_every_slice_of_the_store_is_in_the_shards(pair):
    store, shards = pair
    plan = plan_all(shards.recordings())
    reader = BatchReader(shards, lambda _: plan, LoaderConfig(), targets=None, train=False)
    cells = np.concatenate([batch.slices.numpy() for batch in reader])
    assert np.array_equal(cells, store.slices())
    assert plan.rows.tolist() == store.slice_index()["row"].to_list()


def test_recordings_and_index_are_copied_whole(pair):
    store, shards = pair
    assert shards.recordings().equals(store.recordings())
    assert shards.slice_index().equals(store.slice_index())
    assert (shards.recipe, shards.store_id) == (store.recipe, store.store_id)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves them open
def test_stock_webdataset_finds_the_arrays_of_the_store(pair):
    store, shards = pair
    urls = sorted(str(path) for path in Path(shards.url).glob("shard-*.tar"))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert len(urls) > 2
    assert [sample["json"]["row"] for sample in samples] == store.slice_index()["row"].to_list()
    assert np.array_equal(np.stack([sample["mel.npy"] for sample in samples]), store.slices())


def test_the_command_writes_the_same_shards(pair, tmp_path):
    store, shards = pair
    words = [
        f"store={store.url}",
        f"shards={tmp_path / 'shards'}",
        "write_shards.shard_size_bytes=400_000",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tools.write_shards", *words],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "8 recordings" in done.stdout
    for path in Path(shards.url).glob("*.*"):
        if path.is_file() and path.name != ".lock":
            assert path.read_bytes() == (tmp_path / "shards" / path.name).read_bytes()


def test_the_command_refuses_a_wrong_call_in_one_line(pair, tmp_path):
    (tmp_path / "thesis.tex").write_text("important")
    done = subprocess.run(
        [sys.executable, "-m", "tools.write_shards", f"store={pair[0].url}", f"shards={tmp_path}"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "thesis.tex" in done.stderr
