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

MANY_KILLS = int(os.environ.get("MELBANK_KILLS", "15"))
BUILD = """
import sys
import storage.build.dask
import storage.build.plan
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.errors import MelbankError
from storage.recipe import Recipe
from storage.source.table import SourceConfig

source, store, workers, executor, part_slices, *part = sys.argv[1:]
storage.build.plan.MIN_PART_SLICES = int(part_slices)  # many parts: a kill can fall between any two
storage.build.dask.NO_WORKER_S = storage.build.dask.POLL_S = 1
storage.build.dask.CONNECT_S = 5

if __name__ == "__main__":
    config = BuildConfig(workers=int(workers), executor=executor, part=part[0] if part else None)
    print("ready", flush=True)
    try:
        build_store(SourceConfig(root=source), Recipe(), store, config)
    except MelbankError as error:
        sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)
    return write_source(tmp_path_factory.mktemp("kill"), rng.uniform(2, 16, 24).tolist(), rng)


class Builder:
    """The same build in a process group of its own, to be killed or waited for."""

    def __init__(self, folder: Path, source: Path, part_slices: int = 8) -> None:
        self.script = folder / "build.py"
        self.script.write_text(BUILD)
        self.source = source.resolve()  # relative paths are taken from its folder
        self.root = self.source.name
        self.part_slices = part_slices

    def start(
        self,
        store: Path | str,
        workers: int,
        executor: str = "local",
        stderr: int | None = None,
        part: str = "",
    ) -> "subprocess.Popen[str]":
        words = [self.root, store, workers, executor, self.part_slices]
        words += [part] if part else []
        process = subprocess.Popen(
            [sys.executable, str(self.script), *map(str, words)],
            cwd=self.source.parent,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=stderr,
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


@pytest.mark.parametrize("num_kills", [1, pytest.param(MANY_KILLS, marks=pytest.mark.slow)])
def test_killed_builds_finish_with_equal_bytes(
    num_kills: int, source: Path, tmp_path: Path
) -> None:
    """Kills builds at random moments and finishes them."""
    builder = Builder(tmp_path, source)
    whole = tmp_path / "whole"
    seconds = builder.finish(whole, 2)
    wanted = bytes_of(whole)
    rng = random.Random(num_kills)
    half_done = 0
    for number in range(num_kills):
        store = tmp_path / f"store-{number}"
        process = builder.start(store, 2)
        if number % 2:  # any moment; every other kill falls where parts are under way
            time.sleep(rng.uniform(0.1, 1.0) * seconds)
        else:
            while process.poll() is None and not identities(store, "slices.zarr/c"):
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.1) * seconds)
        builder.kill(process)
        shards = identities(store, "slices.zarr/c")
        committed = identities(store, "index")
        half_done += bool(shards) and len(committed) < 5
        builder.finish(store, 2)
        assert bytes_of(store) == wanted, f"kill {number}"
        assert shards.items() <= identities(store, "slices.zarr/c").items(), f"kill {number}"
        assert committed.items() <= identities(store, "index").items(), f"kill {number}"
    assert half_done or num_kills < MANY_KILLS
