"""Writing shards may be killed at any instant: running it again finishes, with equal bytes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.shards.shard_set import open_shards
from datasets.shards.verify import verify_shards
from datasets.shards.writer import ShardConfig, write_shards
from storage.errors import ConfigError, DamageError, StoreError
from tests.fakes import write_fake_source
from tests.paths import ROOT
from tests.shard_sets import check_holds, contents, identities, part_of

LENGTHS = np.random.default_rng(4).integers(1, 12, 100).tolist()
HALF = 50
TABLES = ("shards.parquet", "recordings.parquet")
SECONDS = 1.0  # about what writing takes; a kill may also come after the end
CONFIG = ShardConfig(shard_size_bytes=100_000, workers=2)
ALONE = replace(CONFIG, workers=1)
WRITE = f"""
import sys
from dataclasses import replace
from pathlib import Path
from datasets.shards.writer import ShardConfig, write_shards
from tests.fakes import write_fake_source

LENGTHS = {LENGTHS}

if __name__ == "__main__":
    folder, target, workers, end, fresh, *part = sys.argv[1:]
    config = replace({CONFIG}, workers=int(workers), fresh=fresh == "fresh")
    config = replace(config, part=part[0] if part else None)
    whole = write_fake_source(Path(folder) / "cells.raw", LENGTHS, seed=1)
    part = whole.table[: int(end)], whole.index[: sum(LENGTHS[: int(end)])]
    print("ready", flush=True)
    write_shards(replace(whole, table=part[0], index=part[1]), target, config)
"""


class Writer:
    """Writing in a process group of its own, to be killed or waited for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "write.py"
        self.script.write_text(WRITE)
        self.source = write_fake_source(folder / "cells.raw", LENGTHS, seed=1)

    def start(
        self,
        target: Path,
        workers: int = 2,
        end: int = len(LENGTHS),
        how: str = "",
        part: str = "",
    ) -> subprocess.Popen:
        words = [str(self.folder), str(target), str(workers), str(end), how]
        words += [part] if part else []
        process = subprocess.Popen(
            [sys.executable, str(self.script), *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout.readline() == "ready\n"
        return process

    def kill(self, process: subprocess.Popen, target: Path, seconds: float | None) -> None:
        """SIGKILL to the whole group, after so many seconds, or at the first finished tar."""
        with process:
            if seconds is None:
                while process.poll() is None and not noted(target):
                    time.sleep(0.002)
            else:
                time.sleep(seconds)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def finish(self, target: Path, workers: int) -> None:
        """Writes to the end."""
        with self.start(target, workers) as process:
            assert process.wait(timeout=100) == 0


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    return Writer(tmp_path_factory.mktemp("kill"))


@pytest.fixture(scope="module")
def at_once(writer, tmp_path_factory):
    """The set that is written without a stop."""
    folder = tmp_path_factory.mktemp("whole") / "at once"
    write_shards(writer.source, str(folder), ALONE)
    return folder


@pytest.fixture(scope="module")
def first_killed(writer, tmp_path_factory):
    """A set whose writing was killed at its first finished tar."""
    target = tmp_path_factory.mktemp("first") / "shards"
    writer.kill(writer.start(target), target, None)
    return target


@pytest.fixture
def killed(first_killed, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(first_killed, tmp_path / "shards"))


def noted(target: Path) -> dict[str, tuple[int, int]]:
    """The tars that an unfinished run has noted as whole."""
    notes = {path.name.removesuffix(".json") for path in target.glob("unfinished/*.tar.json")}
    return {name: what for name, what in identities(target).items() if name in notes}


def check_kills(writer: Writer, at_once: Path, tmp_path: Path, num_kills: int, seed: int) -> int:
    """Kills and finishes, alternately a first writing and an appending; returns how many left."""
    write_shards(part_of(writer.source, range(HALF)), str(tmp_path / "half"), ALONE)
    shutil.copytree(tmp_path / "half", tmp_path / "appended")
    write_shards(writer.source, str(tmp_path / "appended"), ALONE)
    rng = random.Random(seed)
    num_unfinished = 0
    for number in range(num_kills):
        target = tmp_path / f"target-{number}"
        wanted = tmp_path / "appended" if number % 2 else at_once
        if number % 2:
            shutil.copytree(tmp_path / "half", target)
        old = identities(target)
        for again in range(1 + number % 3):  # killed up to three times
            moment = None if number % 4 < 2 and not again else rng.uniform(0, SECONDS)
            writer.kill(writer.start(target), target, moment)
        kept = noted(target)
        num_unfinished += bool(kept)
        if number % 2:
            check_readable_or_refused(target, old)
        writer.finish(target, workers=1 + number % 2)
        assert contents(target) == contents(wanted), f"kill {number}"
        after = identities(target)
        assert old.items() <= after.items(), f"kill {number}"
        assert kept.items() <= after.items(), f"kill {number}"
        shutil.rmtree(target)
    return num_unfinished


def check_readable_or_refused(target: Path, old: dict[str, tuple[int, int]]) -> None:
    """A set that was being appended to is still whole, or is refused; never something between."""
    damage = verify_shards(str(target), None).damage
    if damage:
        with pytest.raises(DamageError, match="stale"):
            open_shards(str(target))
    else:
        assert len(open_shards(str(target)).recordings()) in (HALF, len(LENGTHS))
    assert old.items() <= identities(target).items()


def test_killed_runs_finish_with_equal_bytes_and_keep_what_was_done(writer, at_once, tmp_path):
    assert check_kills(writer, at_once, tmp_path, 2, seed=1) > 0


@pytest.mark.slow
def test_many_killed_runs_finish_with_equal_bytes(writer, at_once, tmp_path):
    num_kills = int(os.environ.get("MELBANK_KILLS", "12"))
    assert check_kills(writer, at_once, tmp_path, num_kills, seed=2) > 0


def test_where_the_source_changes_behind_a_killed_run_its_tars_are_kept(writer, tmp_path):
    target = tmp_path / "shards"
    writer.kill(writer.start(target, end=HALF), target, None)
    kept = noted(target)
    with pytest.raises(StoreError, match="not a finished shard set"):
        open_shards(str(target))
    now = part_of(writer.source, range(3, len(LENGTHS)))
    report = write_shards(now, str(target), CONFIG)
    assert kept.items() <= identities(target).items()
    assert report.num_shards == report.new_shards + len(kept)
    check_holds(open_shards(str(target)), now)
    named = json.loads((target / "shards.json").read_bytes())["files"]
    assert {path.name for path in target.glob("*.tar")} == {*named} - {*TABLES}


def test_a_killed_fresh_run_goes_on_and_leaves_nothing_of_the_old_set(writer, at_once, tmp_path):
    target = tmp_path / "shards"
    small = replace(ALONE, shard_size_bytes=10_000)
    assert write_shards(part_of(writer.source, range(HALF)), str(target), small).num_shards > 40
    writer.kill(writer.start(target, how="fresh"), target, None)
    kept = noted(target)
    with pytest.raises(StoreError, match="not a finished shard set"):
        open_shards(str(target))
    write_shards(writer.source, str(target), replace(ALONE, fresh=True))
    assert kept.items() <= identities(target).items()
    assert contents(target) == contents(at_once)


def test_damaged_notes_are_none(writer, killed, at_once):
    notes = sorted(killed.glob("unfinished/*.tar.*"))
    assert notes
    for number, path in enumerate(notes):
        path.write_bytes(path.read_bytes()[: 3 + number])
    write_shards(writer.source, str(killed), ALONE)
    assert contents(killed) == contents(at_once)


def test_an_unfinished_set_of_another_store_is_left_alone(killed, tmp_path):
    target = killed
    shutil.rmtree(target / ".tmp", ignore_errors=True)  # a killed writer may leave a file there
    left = contents(target)
    other = write_fake_source(tmp_path / "other.raw", [3, 4], seed=9)
    other = replace(other, store_id="0ther")
    with pytest.raises(ConfigError, match="another store"):
        write_shards(other, str(target), CONFIG)
    assert contents(target) == left
    write_shards(other, str(target), replace(CONFIG, fresh=True))
    check_holds(open_shards(str(target)), other)
    assert len(list(target.glob("*.tar"))) == 1


def is_alive(group: int) -> bool:
    """True while a process group has members."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_ends_it_with_its_workers_and_it_goes_on_later(writer, tmp_path):
    target = tmp_path / "shards"
    process = writer.start(target)
    with process:
        while process.poll() is None and not noted(target):
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) != 0
    end = time.monotonic() + 20
    while is_alive(process.pid) and time.monotonic() < end:  # a server process leaves last
        time.sleep(0.01)
    assert not is_alive(process.pid)
    kept = noted(target)
    writer.finish(target, workers=1)
    assert kept.items() <= identities(target).items()
    check_holds(open_shards(str(target)), writer.source)
