"""A build may be killed at any instant: running it again finishes the work, with equal bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.paths import ROOT
from tests.sounds import write_source
from tests.storage.build.test_build import bytes_of, identities

BUILD = """
import sys
import storage.build.plan
storage.build.plan.MIN_PART_SLICES = 8  # many parts, so that a kill can fall between any two
from storage.build.build import BuildConfig, build_store
from storage.recipe import Recipe
from storage.source.table import SourceConfig

if __name__ == "__main__":
    source, store, workers = sys.argv[1:]
    config = BuildConfig(workers=int(workers))
    print("ready", flush=True)
    build_store(SourceConfig(root=source), Recipe(), store, config)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)
    return write_source(tmp_path_factory.mktemp("kill"), rng.uniform(2, 16, 24).tolist(), rng)


class Builder:
    """The same build in a process group of its own, to be killed or waited for."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.script = folder / "build.py"
        self.script.write_text(BUILD)
        self.source = source

    def start(self, store: Path, workers: int) -> "subprocess.Popen[str]":
        words = [sys.executable, str(self.script), str(self.source), str(store), str(workers)]
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def finish(self, store: Path, workers: int) -> float:
        """Builds to the end; returns the seconds it took."""
        began = time.monotonic()
        assert self.wait(self.start(store, workers)) == 0
        return time.monotonic() - began

    def wait(self, process: "subprocess.Popen[str]") -> int:
        with process:
            return process.wait(timeout=300)

    def kill(self, process: "subprocess.Popen[str]") -> None:
        """SIGKILL to the whole process group, workers included."""
        with process:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_a_shard(store: Path, process: "subprocess.Popen[str]") -> None:
    while process.poll() is None and not identities(store, "slices.zarr/c"):
        time.sleep(0.01)


def check_kills(num_kills: int, workers: int, source: Path, tmp_path: Path, seed: int) -> int:
    """Kills builds at random moments and finishes them; returns how many had begun to write."""
    builder = Builder(tmp_path, source)
    whole = tmp_path / "whole"
    seconds = builder.finish(whole, workers)
    wanted = bytes_of(whole)
    rng = random.Random(seed)
    half_done = 0
    for number in range(num_kills):
        store = tmp_path / f"store-{number}"
        process = builder.start(store, workers)
        if number % 2:  # any moment; every other kill falls where parts are under way
            time.sleep(rng.uniform(0.1, 1.0) * seconds)
        else:
            wait_for_a_shard(store, process)
            time.sleep(rng.uniform(0, 0.1) * seconds)
        builder.kill(process)
        shards = identities(store, "slices.zarr/c")
        committed = identities(store, "index")
        half_done += bool(shards) and len(committed) < 5
        builder.finish(store, workers)
        assert bytes_of(store) == wanted, f"kill {number}"
        assert shards.items() <= identities(store, "slices.zarr/c").items(), f"kill {number}"
        assert committed.items() <= identities(store, "index").items(), f"kill {number}"
    return half_done


def test_killed_builds_finish_with_equal_bytes(source: Path, tmp_path: Path) -> None:
    check_kills(2, 2, source, tmp_path, seed=1)


@pytest.mark.slow
def test_many_killed_builds_finish_with_equal_bytes(source: Path, tmp_path: Path) -> None:
    num_kills = int(os.environ.get("MELBANK_KILLS", "15"))
    assert check_kills(num_kills, 2, source, tmp_path, seed=2) > 0
