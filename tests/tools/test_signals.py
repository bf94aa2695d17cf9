"""Signals that stop commands: exit codes, no orphans, and equal results after another start."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from datasets.shards.writer import ShardConfig, write_shards
from storage.format.zarr_shards import shard_name
from storage.store import open_store
from tests.paths import ROOT
from tests.small_store import SECONDS, build_small_store
from tests.sounds import write_source
from tools.cli.command import Command, run
from tools.cli.stopping import KILLED, Children

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
OWN_FRAME = re.compile(rf'File "{re.escape(str(ROOT))}/(storage|datasets|training|tools)/')
RECIPE = ["sample_rate_hz=8000", "fmax_hz=4000", "slice_s=1", "slice_step_s=0.25", "n_mels=32"]


@dataclass(frozen=True, kw_only=True)
class NoSections:
    """A command without config."""


COMMAND = Command(doc="Waits.", sections=NoSections)


class Swallows:
    """Its destructor takes so long that a signal falls into it, whose exception Python drops."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)


@pytest.mark.parametrize("number", CODES)
def test_a_signal_stops_a_command_with_its_code(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    assert run(COMMAND, lambda *_: os.kill(os.getpid(), number), []) == CODES[number]
    assert "what is committed stays" in capsys.readouterr().err
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        assert run(COMMAND, lambda *_: os.kill(os.getpid(), signal.SIGHUP), []) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_in_a_destructor_is_not_lost() -> None:
    def main(*_: object) -> None:
        Swallows()
        time.sleep(20)

    assert run(COMMAND, main, []) == 143


def test_a_stop_that_a_library_turns_into_another_error_stays_one() -> None:
    def main(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt as error:
            raise RuntimeError("Error calling __set_name__") from error

    assert run(COMMAND, main, []) == 130


IN_EXEC = """import sys
from tests.tools.test_signals import COMMAND, run

def main(*_):
    exec("import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(20)")

sys.exit(run(COMMAND, main, []))
"""


def test_a_stop_in_an_exec_of_a_text_has_its_code(tmp_path: Path) -> None:
    """Python itself would end the process by SIGINT."""
    (tmp_path / "waits.py").write_text(IN_EXEC)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    call = [sys.executable, "-m", "waits"]
    done = subprocess.run(call, env={**os.environ, "PYTHONPATH": path}, timeout=60, check=False)
    assert done.returncode == 130


def test_a_stop_ends_the_commands_that_a_command_has_started() -> None:
    waiting = ["http.server", "--bind", "127.0.0.1", "0"]
    codes: list[int] = []

    before = {child.pid for child in psutil.Process().children()}  # of earlier tests

    def main(*_: object) -> None:
        with ThreadPoolExecutor(2) as pool, Children() as children:
            for _ in range(3):  # the third one is not started any more
                pool.submit(lambda: codes.append(children.run(waiting, os.environ)))
            while len({child.pid for child in psutil.Process().children()} - before) < 2:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(20)

    assert run(COMMAND, main, []) == 143
    assert sorted(codes) == [-signal.SIGTERM, -signal.SIGTERM, KILLED]


def start(words: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def stop(words: list[str], number: signal.Signals, wait_s: float, *, all_of: bool) -> int:
    """Sends a signal after a time; returns the exit code when no process of the call is left."""
    process = start(words)
    time.sleep(wait_s)
    if process.poll() is None:
        (os.killpg if all_of else os.kill)(process.pid, number)
    said, _ = process.communicate(timeout=60)  # the end of output: all that share it have ended
    assert not OWN_FRAME.search(said), said  # multiprocessing may fail to start a worker meanwhile
    deadline = time.monotonic() + 20
    while is_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(process.pid)
    return process.returncode


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def contents(folder: Path) -> dict[str, str]:
    """sha256 of each file; locks are of the process that had them."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signals")
    build_small_store(folder, SECONDS[:9])
    return folder


WRITERS = ("build 2", "shards 2", "sync", "export", "query")


def commands(inputs: Path, out: Path) -> dict[str, list[str]]:
    build = ["tools.build_store", f"source.root={inputs}/many", f"store={out}"]
    recipe = [f"recipe.{word}" for word in RECIPE]
    store = f"store={inputs}/store"
    shards = ["tools.write_shards", store, f"shards={out}", "write_shards.shard_size_bytes=20000"]
    return {
        "build 2": [*build, *recipe, "build.workers=2"],
        "shards 2": [*shards, "write_shards.workers=2"],
        "sync": ["tools.sync", f"{inputs}/store", str(out)],
        "export": ["tools.export_npy", store, f"export_npy.root={out}"],
        "query": ["tools.query", store, "--limit", "4", "--png", str(out / "sheet.png")],
        "index 2": ["tools.index_shards", f"shards={out}", "index_shards.workers=2"],
        "repair": ["tools.verify", f"store={out}", "--repair", f"source.root={inputs}/source"],
        "compact": ["tools.compact", f"store={out}"],
    }


def prepare(inputs: Path, out: Path, name: str) -> None:
    """Makes what some commands change: shards without an index, a store that is damaged or full."""
    if name.startswith("index"):
        with open_store(str(inputs / "store")) as store:
            write_shards(store, str(out), ShardConfig(shard_size_bytes=20_000, workers=1))
        for lost in ("shards.json", "shards.parquet", "recordings.parquet"):
            (out / lost).unlink()
    if name in ("repair", "compact"):
        shutil.copytree(inputs / "store", out)
        slices = out / shard_name(0)
        if name == "repair":
            slices.write_bytes(slices.read_bytes()[:-9])
        for number in range(1, 2000 if name == "compact" else 0):  # as kills leave them
            left = out / shard_name(number)
            left.parent.mkdir(parents=True, exist_ok=True)
            left.write_bytes(b"left")


def check_stops(
    inputs: Path, folder: Path, name: str, moments: dict[float, signal.Signals]
) -> None:
    """Stops a command at shares of its time; it goes on where it was, and ends as one that ran."""
    if name.startswith("build"):
        rng = np.random.default_rng(3)
        write_source(inputs / "many", rng.uniform(20, 60, 10).tolist(), rng)
    for one in ("whole", "stopped"):
        prepare(inputs, folder / one, name)
    begin = time.monotonic()
    whole = start(commands(inputs, folder / "whole")[name])
    said, _ = whole.communicate(timeout=120)
    assert whole.returncode == 0, said
    took_s = time.monotonic() - begin
    words = commands(inputs, folder / "stopped")[name]
    for share, number in moments.items():
        all_of = number in (signal.SIGINT, signal.SIGHUP)
        code = stop(words, number, share * took_s, all_of=all_of)
        assert code in (0, -number, CODES.get(number))
    again = start(words)
    said, _ = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert contents(folder / "stopped") == contents(folder / "whole")


@pytest.mark.slow
def test_shards_that_were_stopped_by_sigterm_go_on(inputs: Path, tmp_path: Path) -> None:
    check_stops(inputs, tmp_path, "shards 2", {0.8: signal.SIGTERM})


@pytest.mark.slow
@pytest.mark.parametrize("number", [*CODES, signal.SIGKILL])
@pytest.mark.parametrize("name", WRITERS)
def test_any_command_may_be_stopped_at_any_stage(
    name: str, number: signal.Signals, inputs: Path, tmp_path: Path
) -> None:
    check_stops(inputs, tmp_path, name, dict.fromkeys((0.15, 0.5, 0.85), number))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index 2", "repair", "compact"])
def test_what_changes_a_folder_in_place_may_be_stopped_too(
    name: str, inputs: Path, tmp_path: Path
) -> None:
    moments = {0.5: signal.SIGTERM, 0.7: signal.SIGINT, 0.85: signal.SIGHUP, 0.95: signal.SIGKILL}
    check_stops(inputs, tmp_path, name, moments)
