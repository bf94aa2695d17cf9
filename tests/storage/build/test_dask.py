"""A build on a Dask cluster gives the bytes of a local one, whatever becomes of the workers."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from storage.build import dask
from storage.build.build import build_store
from storage.build.code_version import code_version, version_difference
from storage.build.config import BuildConfig
from storage.build.dask import check_shared
from storage.build.plan import PartJob, PartRange
from storage.build.rounds import open_build
from storage.errors import ConfigError, StoreError
from storage.format.chunk_codecs import DEFAULT_CODEC
from storage.format.tables import PLANS, read_table
from storage.objects.open import open_objects
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from tests.paths import ROOT
from tests.s3_server import S3
from tests.sounds import write_source
from tests.storage.build.test_build import bytes_of
from tests.storage.build.test_kill import Builder
from tools.cli.building import BuildSections
from tools.cli.config import load_config

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="the extra dask is not installed"
)


class Cluster:
    """A scheduler and workers as processes on loopback; all are killed at the end."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        contact = folder / "scheduler.json"
        words = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(contact))
        self.scheduler = self.start("scheduler", *words)
        wait_until(lambda: contact.exists() or self.scheduler.poll() is not None)
        wait_until(lambda: contact.read_text().endswith("}"), seconds=5)
        self.address = json.loads(contact.read_text())["address"]
        self.executor = self.address.replace("tcp://", "dask://")

    def add_worker(self, path: Path = ROOT) -> "subprocess.Popen[bytes]":
        return self.start("worker", self.address, "--nthreads", "1", "--no-nanny", path=path)

    def start(self, role: str, *words: str, path: Path = ROOT) -> "subprocess.Popen[bytes]":
        log = self.stack.enter_context((self.folder / f"{role}.log").open("ab"))
        variables = {"PYTHONPATH": str(path), "DASK_TEMPORARY_DIRECTORY": str(self.folder)}
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{role}", "--no-dashboard", *words],
            cwd=self.folder,
            env={**os.environ, **variables},
            stdout=log,
            stderr=log,
        )
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process


class Building(Builder):
    """A build of relative paths, as people give them; workers run in another folder."""

    def start(self, store: Path, executor: str) -> "subprocess.Popen[str]":
        path = os.path.relpath(store, self.source.parent)
        return super().start(path, 2, executor, stderr=subprocess.PIPE)

    def finish(self, process: "subprocess.Popen[str]") -> tuple[int, str]:
        """(exit code, what it said), less what distributed logs when a machine is slow."""
        said = process.communicate(timeout=300)[1].splitlines(keepends=True)
        return process.returncode, "".join(line for line in said if " - distributed" not in line)


def wait_until(is_so: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def num_parts(store: Path) -> int:
    return len(list((store / "index").glob("*.parquet")))


@contextmanager
def cluster_in(folder: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(folder, stack)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(31)
    return write_source(tmp_path_factory.mktemp("dask") / "src", rng.uniform(3, 10, 36), rng)


def build_with_a_kill(building: Building, cluster: Cluster, store: Path) -> int:
    """Builds, and kills a worker on the way; returns how many parts were committed then."""
    doomed = cluster.add_worker()
    process = building.start(store, cluster.executor)
    wait_until(lambda: num_parts(store) >= 2 or process.poll() is not None)
    doomed.kill()
    num_at_kill = num_parts(store)
    assert building.finish(process) == (0, "")
    return num_at_kill


@needs_dask
@pytest.mark.slow
@pytest.mark.parametrize(("name", "part_slices"), [("made", 8), ("esc10", 24)])
def test_a_worker_killed_half_way_changes_no_byte(
    name: str, part_slices: int, real_data: Callable[[str], Path], source: Path, tmp_path: Path
) -> None:
    building = Building(tmp_path, source if name == "made" else real_data(name), part_slices)
    assert building.finish(building.start(tmp_path / "local", "local")) == (0, "")
    total = num_parts(tmp_path / "local")
    assert total >= 8
    with cluster_in(tmp_path) as cluster:
        cluster.add_worker()
        for attempt in range(4):  # a quick build may be done before the kill: then once more
            store = tmp_path / f"store-{attempt}"
            num_at_kill = build_with_a_kill(building, cluster, store)
            assert bytes_of(store) == bytes_of(tmp_path / "local")
            if num_at_kill < total:
                return
    pytest.fail("the worker was never killed half-way")


@needs_dask
@pytest.mark.slow
def test_a_lost_cluster_is_one_line_and_the_build_goes_on(source: Path, tmp_path: Path) -> None:
    building = Building(tmp_path, source, 8)
    with cluster_in(tmp_path) as cluster:
        worker = cluster.add_worker()
        process = building.start(tmp_path / "deserted", cluster.executor)
        wait_until(lambda: num_parts(tmp_path / "deserted") >= 1)
        worker.kill()
        code, said = building.finish(process)
        assert (code, said.count("\n")) == (1, 1)
        assert "has had no worker for" in said
        cluster.add_worker()
        process = building.start(tmp_path / "store", cluster.executor)
        wait_until(lambda: num_parts(tmp_path / "store") >= 1)
        cluster.scheduler.kill()
        code, said = building.finish(process)
        assert (code, said.count("\n")) == (1, 1)
        assert "the scheduler of dask://127.0.0.1" in said
    for name in ("deserted", "store", "local"):
        assert building.finish(building.start(tmp_path / name, "local")) == (0, "")
    assert bytes_of(tmp_path / "store") == bytes_of(tmp_path / "local")
    assert bytes_of(tmp_path / "deserted") == bytes_of(tmp_path / "local")


@needs_dask
@pytest.mark.slow
def test_workers_without_melbank_are_told_so(source: Path, tmp_path: Path) -> None:
    building = Building(tmp_path, source, 8)
    with cluster_in(tmp_path) as cluster:
        cluster.add_worker(path=tmp_path)
        code, said = building.finish(building.start(tmp_path / "store", cluster.executor))
    assert (code, said.count("\n")) == (1, 1)
    assert "ConfigError" in said
    assert "cannot import melbank" in said


@needs_dask
@pytest.mark.slow
def test_a_source_and_a_store_in_buckets(s3: S3, source: Path, tmp_path: Path) -> None:
    """Workers fetch recordings by themselves, with the credentials of their environment."""
    target = open_objects(s3.url("data"))
    for path in source.rglob("*"):
        if path.is_file():
            target.put(path.relative_to(source).as_posix(), path.read_bytes())
    building = Building(tmp_path, source, 8)
    assert building.finish(building.start(tmp_path / "local", "local")) == (0, "")
    building.root = s3.url("data")
    with cluster_in(tmp_path) as cluster:
        cluster.add_worker()
        doomed = cluster.add_worker()
        url = s3.url("store")
        process = Builder.start(building, url, 2, cluster.executor, stderr=subprocess.PIPE)
        index = open_objects(url)
        wait_until(lambda: len(index.list("index")) >= 5 or process.poll() is not None)
        doomed.kill()
        assert building.finish(process) == (0, "")
    names = [*index.walk()]
    assert dict(zip(names, index.get_many(names), strict=True)) == bytes_of(tmp_path / "local")


@needs_dask
@pytest.mark.slow
def test_a_worker_of_another_version_is_refused_by_name(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "checkout"
    shutil.copytree(ROOT / "storage", other / "storage")
    with (other / "storage" / "audio" / "mel.py").open("a") as file:
        file.write("# another version\n")
    building = Building(tmp_path, source, 8)
    with cluster_in(tmp_path) as cluster:
        cluster.add_worker(path=other)
        code, said = building.finish(building.start(tmp_path / "store", cluster.executor))
    assert (code, said.count("\n")) == (1, 1)
    assert re.search(r"worker tcp://\S+ has another version \(melbank \w{12} in place of", said)
    assert "start it again" in said


def job_in(source: Path, store: Path) -> PartJob:
    """The first part of a store, which is built but for its job."""
    config = BuildConfig(workers=1)
    build = open_build(SourceConfig(root=str(source)), Recipe(), str(store), config)
    build.write_plan(build.pending(), build.next_place())
    return build.jobs(read_table(build.objects, PLANS, 0))[0]


def test_a_part_that_a_lost_worker_has_committed_is_not_built_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.build.plan.MIN_PART_SLICES", 4)
    job = job_in(source, tmp_path / "store")
    done = dask._build_here(job, code_version())
    assert done.num_slices > 0
    monkeypatch.setattr("storage.build.part.build_part", None)  # it would be a TypeError
    assert dask._build_here(job, code_version()) == done


def test_a_worker_that_joins_later_with_another_version_stops(source: Path, tmp_path: Path) -> None:
    job = job_in(source, tmp_path / "store")
    for name, shown in (("melbank", "melbank"), ("soxr", "soxr")):
        with pytest.raises(StoreError, match=rf"has another version \({shown} .* in place of 0"):
            dask._build_here(job, {**code_version(), name: "0"})


def test_a_version_changes_with_the_code_and_the_packages() -> None:
    here = code_version()
    assert version_difference(here, dict(here)) == ""
    assert version_difference(here, {}) == f"melbank none in place of {here['melbank']}"
    assert "torch 1.0 in place of" in version_difference(here, {**here, "torch": "1.0"})


def test_a_worker_that_sees_other_folders_stops(source: Path, tmp_path: Path) -> None:
    recipe = Recipe()
    names = {"path": ["gone.ogg", str(source / "train_audio" / "spec0" / "XC0000.ogg")]}
    nothing = pl.lit(None, pl.String)
    job = PartJob(
        url=str(tmp_path),
        range=PartRange(part=0, first_shard=0, num_shards=1),
        recipe=recipe,
        codec=DEFAULT_CODEC,
        filterbank_MF=np.zeros((recipe.n_mels, 1 + recipe.n_fft // 2)),
        recordings=pl.DataFrame(names).with_columns(reason=nothing, duplicate_of=nothing),
        metadata=pl.DataFrame(),
    )
    with pytest.raises(StoreError, match=f"does not see {tmp_path}:"):
        check_shared(job)
    (tmp_path / "melbank.json").touch()
    check_shared(job)
    with pytest.raises(StoreError, match=r"does not see gone\.ogg"):
        check_shared(replace(job, recordings=job.recordings.head(1)))


@needs_dask
def test_a_timeout_of_a_client_that_closes_is_not_shown() -> None:
    """A busy machine lets one of Dask's own timeouts fall into that moment, after a good build."""
    code = """
import asyncio, sys
import storage.build.dask
from storage.errors import ConfigError

storage.build.dask.CONNECT_S = 0.1
if sys.argv[1] == "connect":
    try:
        with storage.build.dask._connected("dask://127.0.0.1:1"):
            pass
    except ConfigError:
        pass
loop = asyncio.new_event_loop()
loop.create_future().set_exception(TimeoutError("Timeout"))  # and nobody asks for it
loop.close()
"""
    for word, num_lines in (("do not", 3), ("connect", 0)):
        ran = subprocess.run(
            [sys.executable, "-c", code, word],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert ran.stderr.count("\n") == num_lines


@needs_dask
@pytest.mark.slow
def test_no_scheduler_is_a_wrong_call(source: Path, tmp_path: Path) -> None:
    building = Building(tmp_path, source, 8)
    code, said = building.finish(building.start(tmp_path / "store", "dask://127.0.0.1:1"))
    assert (code, said.count("\n")) == (1, 1)
    assert "ConfigError: executor=dask://127.0.0.1:1: no Dask scheduler answered" in said


def test_without_dask_the_error_says_what_to_install(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    config = BuildConfig(executor="dask://127.0.0.1:1")
    with pytest.raises(ConfigError, match="uv sync --extra dask"):
        build_store(SourceConfig(root=str(source)), Recipe(), str(tmp_path / "store"), config)


@pytest.mark.parametrize("key", ["executor", "build.executor"])
def test_the_command_line_knows_the_executor_by_both_names(key: str) -> None:
    config = load_config(
        BuildSections, str(ROOT / "configs" / "base.yaml"), [f"{key}=dask://host:8786"]
    )
    assert config.build.executor == "dask://host:8786"


@pytest.mark.parametrize("executor", ["dask", "dask://", "dask://host", "tcp://host:1", "x", ""])
def test_other_executors_are_refused(executor: str) -> None:
    with pytest.raises(ConfigError, match="neither local nor dask://HOST:PORT"):
        BuildConfig(executor=executor)
