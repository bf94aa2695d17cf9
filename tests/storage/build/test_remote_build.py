"""Stores and shards in a bucket are, object for object, those on disk, whatever happens."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datasets.shards.reindex import IndexConfig, index_shards
from datasets.shards.shard_set import open_shards
from datasets.shards.verify import verify_shards
from datasets.shards.writer import ShardConfig, write_shards
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.build.forecast import forecast_build
from storage.build.report import BuildReport
from storage.build.rounds import open_build
from storage.errors import StoreError
from storage.maintenance.compact import compact_store
from storage.maintenance.repair import repair_store
from storage.maintenance.verify import verify_store
from storage.objects.local import LocalObjects
from storage.objects.open import open_objects
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.paths import ROOT
from tests.s3_server import S3
from tests.sounds import write_source
from tests.static_server import StaticServer
from tests.storage.build.test_kill import Builder
from tools.testbed.fault_proxy import FaultProxy, Faults

SLICE = ["recording_id", "slice_no", "crc32c", "max_db"]
ONE, TWO = BuildConfig(workers=1), BuildConfig(workers=2)


@pytest.fixture(scope="module", autouse=True)
def many_parts() -> Iterator[None]:
    """Parts of 8 slices, so that even a small store has several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.build.plan.MIN_PART_SLICES", 8)
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)
    return write_source(tmp_path_factory.mktemp("remote"), rng.uniform(2, 16, 10).tolist(), rng)


@pytest.fixture(scope="module")
def store(source: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The store on disk that those in buckets are held against."""
    url = str(tmp_path_factory.mktemp("local") / "store")
    build(source, url)
    return url


def build(root: Path, url: str, config: BuildConfig = ONE, **more: int) -> BuildReport:
    return build_store(SourceConfig(root=str(root)), Recipe(), url, config, **more)


def contents(url: str) -> dict[str, bytes]:
    """Every object, byte for byte."""
    objects = open_objects(url)
    names = list(objects.walk())
    return dict(zip(names, objects.get_many(names), strict=True))


def assert_equal(url: str, other: str) -> None:
    here, there = contents(url), contents(other)
    assert here.keys() == there.keys()
    assert [name for name in here if here[name] != there[name]] == []


def slices(url: str) -> pl.DataFrame:
    """Contents of a store, independent of row numbers."""
    with open_store(url) as opened:
        return opened.slice_index().select(SLICE).sort("recording_id", "slice_no")


def test_a_store_in_a_bucket_is_that_on_disk(s3: S3, source: Path, tmp_path: Path) -> None:
    here, there = str(tmp_path / "store"), s3.url("store")
    for limit in (5, None):  # begun, then added to
        for url, config in ((here, ONE), (there, TWO)):
            report = build(source, url, config, limit=limit)
            assert report.num_slices >= 10
        assert_equal(here, there)
    assert build(source, there, TWO).new_slices == 0
    opened = open_build(SourceConfig(root=str(source)), Recipe(), there, ONE)
    assert "recordings 0 would be built, 0 built again" in forecast_build(opened)
    verified = verify_store(there)
    assert not verified.findings
    assert verified.num_zarr_shards > 3
    with open_store(here) as one, open_store(there) as other:
        assert one.recordings().equals(other.recordings())
        sql = "SELECT row, max_db, rating FROM slices WHERE max_db > 5 ORDER BY row"
        assert one.query(sql).collect().equals(other.query(sql).collect())
        assert np.array_equal(one.slices(), other.slices())


@pytest.mark.slow
def test_shards_in_a_bucket_are_those_on_disk(
    s3: S3, source: Path, store: str, tmp_path: Path
) -> None:
    here, there = str(tmp_path / "shards"), s3.url("shards")
    build(source, s3.url("store"))
    config = ShardConfig(shard_size_bytes=700_000, workers=1)
    for limit in (5, None):  # begun, then added to
        write_shards(open_store(store), here, config, limit=limit)
        write_shards(open_store(s3.url("store")), there, config, limit=limit)
        assert_equal(here, there)
    assert len(open_objects(there).walk()) > 4
    report = verify_shards(there, s3.url("store"))
    assert not report.damage
    assert not report.notes
    assert open_shards(there).recordings().equals(open_shards(here).recordings())
    tar = "shard-000000.tar"
    for url in (here, there):
        for name in ("shards.json", "shards.parquet"):
            open_objects(url).delete(name)
        index_shards(url, Recipe(), IndexConfig(workers=1))
    assert_equal(here, there)
    objects = open_objects(there)
    objects.put(tar, objects.get(tar)[:-512])
    assert any("bytes where shards.json has" in line for line in verify_shards(there, None).damage)
    for url in (here, there):
        write_shards(open_store(store), url, config)
    assert_equal(here, there)


def test_what_is_damaged_in_a_bucket_is_found_and_mended(s3: S3, source: Path, store: str) -> None:
    url = s3.url("store")
    build(source, url)
    objects = open_objects(url)
    for name in ("slices.zarr/c/1/0/0", "index/part-00000.parquet", "melbank.json"):
        data = bytearray(objects.get(name))
        data[len(data) // 2] ^= 1
        objects.put(name, bytes(data))
    objects.delete("slices.zarr/c/2/0/0")
    report = verify_store(url)
    damaged = {finding.object for finding in report.damage}
    assert {"slices.zarr/c/1/0/0", "slices.zarr/c/2/0/0", "index/part-00000.parquet"} <= damaged
    assert not repair_store(SourceConfig(root=str(source)), report).left
    assert not verify_store(url).findings
    assert_equal(store, url)


def test_compact_frees_a_bucket_and_names_what_it_cannot_see(s3: S3, source: Path) -> None:
    url = s3.url("store")
    build(source, url)
    objects = open_objects(url)
    objects.put("slices.zarr/c/99/0/0", b"left by a build that was killed")
    objects.put("recordings/part-00099.parquet", b"left too")
    report = compact_store(url)
    assert report.num_objects == 2
    assert "lifecycle rule that aborts incomplete multipart uploads" in report.summary()
    assert not verify_store(url).findings


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, 15], ids=["twice", "often"])
def test_a_build_into_a_bucket_that_is_killed_goes_on(
    s3: S3, source: Path, store: str, tmp_path: Path, kills: int
) -> None:
    builder, url, rng = Builder(tmp_path, source), s3.url("store"), random.Random(kills)
    total = len(open_objects(store).walk())
    for there in sorted(rng.sample(range(1, total), kills)):
        process = builder.start(url, 2)
        while process.poll() is None and len(open_objects(url).walk()) < there:
            time.sleep(0.02)
        builder.kill(process)
        if open_objects(url).exists("melbank.json"):  # what readers would see now is whole
            assert len(slices(url).join(slices(store), on=SLICE, how="anti")) == 0
    builder.finish(url, 2)
    assert_equal(store, url)


@pytest.mark.slow
def test_two_builds_of_one_source_at_once_are_harmless(
    s3: S3, source: Path, store: str, tmp_path: Path
) -> None:
    builder, url = Builder(tmp_path, source), s3.url("store")
    processes = [builder.start(url, 1) for _ in range(2)]
    assert [builder.wait(process) for process in processes] == [0, 0]
    assert not verify_store(url).damage
    assert slices(url).equals(slices(store))
    build(source, url)
    assert not verify_store(url).damage


@pytest.mark.slow
def test_two_builds_of_different_sources_at_once_leave_a_sound_store(
    s3: S3, source: Path, store: str, tmp_path: Path
) -> None:
    """The second plans other parts in the same places, while the first is at work on them."""
    table = pl.read_csv(source / "train.csv")
    (tmp_path / "fewer").mkdir()
    (tmp_path / "fewer" / "train_audio").symlink_to(source / "train_audio")
    table.gather_every(2, 1).write_csv(tmp_path / "fewer" / "train.csv")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    url = s3.url("store")
    first = Builder(tmp_path / "a", tmp_path / "fewer").start(url, 1)
    time.sleep(1.5)
    second = Builder(tmp_path / "b", source).start(url, 1)
    for process in (first, second):
        with process:
            process.wait(timeout=120)  # one may have given up: it says to run it again
    build(source, url)
    assert not verify_store(url).damage
    assert slices(url).equals(slices(store))


@pytest.mark.slow
def test_a_build_through_a_bad_line_ends_with_equal_bytes(
    s3: S3, source: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultProxy(s3.endpoint, Faults(rate=0.05, stall_s=1.0), seed=11) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        build(source, s3.url("store"))
        write_shards(open_store(s3.url("store")), s3.url("shards"), ShardConfig(workers=1))
        assert proxy.counts.faults.total() > 5
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    assert_equal(store, s3.url("store"))
    assert not verify_shards(s3.url("shards"), store).damage


@pytest.mark.slow
def test_the_server_may_be_in_the_config_alone(
    s3: S3, source: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worker processes hear of the section remote, though their server started long before."""
    build(source, s3.url("first"), TWO)
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    words = [f"remote.endpoint_url={s3.endpoint}", "remote.region=us-east-1", "build.workers=2"]
    done = command("build_store", f"source.root={source}", f"store={s3.url('second')}", *words)
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    assert slices(s3.url("second")).equals(slices(store))


def command(tool: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", f"tools.{tool}", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


BAD_CALLS = [  # variables, exit code, words of the message
    ({"AWS_SECRET_ACCESS_KEY": "hunter2"}, 1, "does not know these credentials"),
    ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, 1, "connection refused"),
]
SLOW_BAD_CALLS = [
    ({"AWS_REGION": "eu-west-1"}, 1, "set AWS_REGION or remote.region to us-east"),
    ({"AWS_ENDPOINT_URL": "http://192.0.2.1"}, 2, "is not encrypted"),
]


@pytest.mark.parametrize(
    "call", [*BAD_CALLS, *(pytest.param(call, marks=pytest.mark.slow) for call in SLOW_BAD_CALLS)]
)
def test_a_command_that_cannot_reach_its_bucket_says_so_in_a_line(
    s3: S3, call: tuple[dict[str, str], int, str], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables, code, words = call
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    for variable, value in (s3.environment() | variables).items():
        monkeypatch.setenv(variable, value)
    for tool, *words_of_tool in (("query",), ("build_store", f"source.root={source}")):
        done = command(tool, f"store={s3.url('store')}", *words_of_tool)
        assert done.returncode == code
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.splitlines()) == 1
        assert words in done.stderr
        for secret in ("hunter2", s3.access.secret_key):
            assert secret not in done.stdout + done.stderr


def test_a_store_behind_a_web_server_is_read_but_never_written(
    source: Path, store: str, tmp_path: Path
) -> None:
    with StaticServer(Path(store).parent) as server:
        url = f"{server.endpoint}/store"
        with open_store(url) as one, open_store(store) as other:
            assert one.slice_index().equals(other.slice_index())
            assert one.recordings().equals(other.recordings())
        assert not verify_store(url).damage
        for write in (lambda: build(source, url), lambda: compact_store(url)):
            with pytest.raises(StoreError, match="can only be read: http:// takes no objects"):
                write()
        with pytest.raises(StoreError, match="can only be read"):
            write_shards(open_store(store), f"{server.endpoint}/shards", ShardConfig(workers=1))
    assert isinstance(open_objects(store), LocalObjects)
