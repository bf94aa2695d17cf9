"""Object stores are read as files are: the same cells in the same order."""

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

import tools.query
from datasets.loading.torch_dataset import BatchDataset
from datasets.shards.shard_set import open_shards
from datasets.shards.writer import ShardConfig, write_shards
from datasets.sources.mix import MixedSource, SourceMix
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.errors import AccessError, ObjectMissingError, StoreError
from storage.objects.client import CACHED, RANGED, RemoteConfig
from storage.objects.open import open_objects
from storage.objects.retry import RetryPolicy
from storage.read import range_queue, requests
from storage.read.downloads import shared_downloads
from storage.read.event_loop import background_loop
from storage.read.slice_reader import SliceReader
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.fakes import FakeSource, write_fake_source
from tests.remote_sources import LENGTHS, RemoteFake, check_equal, reader_of, upload, upload_folder
from tests.s3_server import S3
from tests.sounds import write_source
from tests.spoiled import flipped
from tests.static_server import StaticServer
from tools.cli.command import run
from tools.testbed.fault_proxy import FaultProxy

Configure = Callable[..., RemoteConfig]
MODES = [RANGED, CACHED]


@pytest.fixture
def local(tmp_path: Path) -> FakeSource:
    return write_fake_source(tmp_path / "cells.raw", LENGTHS, seed=1)


@pytest.fixture
def remote(local: FakeSource, s3: S3) -> RemoteFake:
    return upload(local, s3.url("cells"))


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Makes a section `remote` of some keys, with a cache of the test's."""

    def configure(**keys: object) -> RemoteConfig:
        return RemoteConfig(**{"cache_dir": str(tmp_path / "cache"), **keys})

    return configure


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of synthesised recordings and its shards."""
    folder = tmp_path_factory.mktemp("pair")
    root = write_source(folder / "source", [3, 12, 5, 7.6, 21, 4, 9], np.random.default_rng(1))
    build = BuildConfig(workers=1)
    build_store(SourceConfig(root=str(root)), Recipe(), str(folder / "store"), build)
    with open_store(str(folder / "store")) as store:
        config = ShardConfig(shard_size_bytes=400_000, workers=1)
        assert write_shards(store, str(folder / "shards"), config).num_shards > 2
    return folder


def wait_for_downloads(config: RemoteConfig) -> None:
    background_loop().submit(shared_downloads(config.cache_folder, config).finish()).result(30)


def read_all(source: FakeSource | RemoteFake, reader: SliceReader) -> np.ndarray:
    rows = source.slice_index()["row"].to_numpy()
    out = np.empty((len(rows), *source.recipe.slice_shape), source.recipe.dtype)
    reader.read(source.extents(rows), out)
    return out


@pytest.mark.parametrize("mode", MODES)
def test_batches_are_those_of_the_files(
    remote: RemoteFake, local: FakeSource, configure: Configure, mode: str
) -> None:
    remote = replace(remote, remote=configure(mode=mode))
    check_equal(remote, local, epochs=2)


@pytest.mark.parametrize("mode", MODES)
def test_a_store_and_its_shards_in_a_bucket_are_those_on_disk(
    pair: Path, s3: S3, configure: Configure, mode: str
) -> None:
    config = configure(mode=mode)
    upload_folder(pair / "store", s3.url("a/store"))
    upload_folder(pair / "shards", s3.url("a/shards"))
    with open_store(str(pair / "store")) as local, open_store(s3.url("a/store"), config) as store:
        check_equal(store, local, epochs=2)
        check_equal(open_shards(s3.url("a/shards"), config), local, epochs=2)
        rows = local.slice_index()["row"].to_numpy()[::-3]
        assert np.array_equal(store.read(rows), local.read(rows))
        loud = "SELECT * FROM slices WHERE max_db > -20"
        assert store.query(loud).collect().equals(local.query(loud).collect())


def test_queries_write_what_they_write_from_disk(
    pair: Path, s3: S3, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upload_folder(pair / "store", s3.url("store"))
    for place, url in (("far", s3.url("store")), ("near", str(pair / "store"))):
        words = [f"store={url}", "--limit", "5", "--npy", str(tmp_path / f"{place}.npy")]
        png = ["--png", str(tmp_path / f"{place}.png")]
        assert run(tools.query.COMMAND, tools.query.main, [*words, *png]) == 0
    capsys.readouterr()
    for kind in ("npy", "png"):
        near, far = (tmp_path / f"{place}.{kind}" for place in ("near", "far"))
        assert near.read_bytes() == far.read_bytes()


@pytest.mark.parametrize("mode", MODES)
def test_a_static_web_server_is_enough(pair: Path, configure: Configure, mode: str) -> None:
    config = configure(mode=mode)
    with StaticServer(pair) as server, open_store(str(pair / "store")) as local:
        check_equal(open_shards(f"{server.endpoint}/shards", config), local)
        with open_store(f"{server.endpoint}/store", config) as store:
            check_equal(store, local)


def test_local_and_remote_sources_mix(
    remote: RemoteFake, local: FakeSource, configure: Configure, tmp_path: Path
) -> None:
    remote = replace(remote, remote=configure())
    other = write_fake_source(tmp_path / "other.raw", [5, 2, 9], seed=2)
    second = MixedSource(name="near", source=other, shared_ids="rename")
    firsts = (MixedSource(name="far", source=source) for source in (remote, local))
    check_equal(*(SourceMix([first, second]) for first in firsts))


def test_neighbours_come_in_one_request(
    remote: RemoteFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(range_queue, "POLICY", RetryPolicy(hedge_after_s=60.0))
    monkeypatch.setattr(requests, "POLICY", RetryPolicy(hedge_after_s=60.0))
    with SliceReader() as reader:
        assert np.array_equal(read_all(remote, reader), remote.cells)
        assert reader._remote is not None
        assert reader._remote._fetcher.num_requests == len(remote.urls)


def test_an_epoch_from_the_cache_asks_for_nothing(
    remote: RemoteFake, proxy: FaultProxy, configure: Configure
) -> None:
    config = configure(mode=CACHED)
    reader = reader_of(replace(remote, remote=config))
    list(reader)
    wait_for_downloads(config)
    proxy.reset_counts()
    reader.set_epoch(1)
    assert len(list(reader)) == len(reader)
    assert not proxy.counts.requests
    size_bytes = remote.cells.nbytes
    assert sum(path.stat().st_size for path in config.cache_folder.iterdir()) == size_bytes


def test_bytes_that_change_in_the_cache_are_fetched_anew(
    remote: RemoteFake, local: FakeSource, configure: Configure
) -> None:
    config = configure(mode=CACHED)
    with SliceReader(config) as reader:
        read_all(remote, reader)
        wait_for_downloads(config)
        spoilt = next(config.cache_folder.iterdir())
        spoilt.write_bytes(bytes(spoilt.stat().st_size))
        assert np.array_equal(read_all(remote, reader), local.cells)
        assert not spoilt.exists()
        assert np.array_equal(read_all(remote, reader), local.cells)
        wait_for_downloads(config)
        assert spoilt.read_bytes().strip(b"\0")


def test_a_replaced_object_is_another_shard(
    remote: RemoteFake, configure: Configure, tmp_path: Path
) -> None:
    config = configure(mode=CACHED)
    with SliceReader(config) as reader:
        read_all(remote, reader)
        wait_for_downloads(config)
    newer = upload(write_fake_source(tmp_path / "newer.raw", LENGTHS, seed=2), remote.url)
    assert newer.urls == remote.urls
    with SliceReader(config) as reader:
        assert np.array_equal(read_all(newer, reader), newer.cells)
        read_all(newer, reader)
        wait_for_downloads(config)
    assert len(list(config.cache_folder.iterdir())) == len(remote.urls)  # the old ones are gone


def test_a_cache_that_cannot_be_written_costs_one_line(
    remote: RemoteFake,
    local: FakeSource,
    configure: Configure,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("not a folder")
    config = configure(mode=CACHED, cache_dir=str(tmp_path / "file" / "cache"))
    remote = replace(remote, remote=config)
    with caplog.at_level(logging.WARNING):
        check_equal(remote, local, epochs=2)
        wait_for_downloads(config)
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("stor")]
    assert "takes no more shards (Not a directory): slices are read by ranged requests" in line


def test_auto_takes_the_cheaper_way_and_says_why(
    remote: RemoteFake, local: FakeSource, configure: Configure
) -> None:
    config = configure(cache_size_gb=0.0)
    reader = reader_of(replace(remote, remote=config))
    assert reader.expect_epochs(3).startswith("ranged (the shards are 0.00 GB, the cache takes")
    list(reader)
    assert not config.cache_folder.exists()
    config = configure()
    reader = reader_of(replace(remote, remote=config))
    assert reader.expect_epochs(3).startswith("cached (3 epochs by ranged requests are")
    list(reader)
    wait_for_downloads(config)
    assert len(list(config.cache_folder.iterdir())) == len(remote.urls)
    ranged = replace(remote, remote=configure(mode=RANGED))
    assert not reader_of(ranged).expect_epochs(3)
    assert not reader_of(local).expect_epochs(3)


def test_what_is_not_there_is_named(remote: RemoteFake) -> None:
    open_objects(remote.url).delete("2.raw")
    with SliceReader() as reader, pytest.raises(ObjectMissingError, match=r"2\.raw is missing"):
        read_all(remote, reader)


def test_wrong_credentials_end_it_at_once(
    remote: RemoteFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-it")
    with SliceReader() as reader, pytest.raises(AccessError, match="check AWS_ACCESS_KEY_ID"):
        read_all(remote, reader)


def test_damage_in_the_bucket_is_set_aside_and_named(remote: RemoteFake) -> None:
    objects = open_objects(remote.url)
    objects.put("0.raw", flipped(objects.get("0.raw"), 5))
    reader = reader_of(remote, max_bad=1)
    assert len(list(reader)) == len(reader)
    (bad,) = reader.bad
    assert (bad.object, bad.offset) == (remote.urls[0], 0)
    assert "checksum differs" in bad.reason


@pytest.mark.slow  # two processes import torch
def test_spawned_workers_open_their_own(remote: RemoteFake, local: FakeSource) -> None:
    loader = DataLoader(
        BatchDataset(reader_of(remote)),
        batch_size=None,
        num_workers=2,
        multiprocessing_context="spawn",
    )
    for far, near in zip(loader, reader_of(local), strict=True):
        assert np.array_equal(far.slices.numpy(), near.slices.numpy())


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_process_says_why_it_cannot(remote: RemoteFake) -> None:
    """Instead of waiting for ever."""
    with SliceReader() as reader:
        read_all(remote, reader)
        near, far = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                read_all(remote, reader)
                told = "nothing"
            except StoreError as error:
                told = str(error)
            os.write(far, told.encode())
            os._exit(0)
        os.close(far)
        os.waitpid(child, 0)
        assert b'multiprocessing_context="spawn"' in os.read(near, 1000)
        os.close(near)
