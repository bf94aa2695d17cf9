"""A prediction that is killed at random moments and run again ends in equal bytes."""

import filecmp
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.predicting import write_checkpoint, write_recordings

NUM_KILLS = int(os.environ.get("MELBANK_KILLS", "4"))
NUM_RECORDINGS = 150


def start(lab: Path, out: Path) -> "subprocess.Popen[bytes]":
    words = [
        f"experiment.root={lab}",
        "predict.from=exp_001",
        f"predict.input={lab / 'sounds'}",
        f"predict.out={out}",
        "predict.workers=2",
        "predict.threads=1",
        "predict.batch_size=4",
    ]
    call = [sys.executable, "-m", "tools.predict", *words]
    return subprocess.Popen(call, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def num_done(out: Path) -> int:
    return sum(1 for _ in out.glob("raw/*/*.*"))


@pytest.mark.slow
def test_killed_runs_end_in_equal_bytes(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    for fold in (0, 1):
        write_checkpoint(lab / "weights" / "exp_001" / f"fold_{fold}.ckpt", seed=fold)
    write_recordings(lab / "sounds", [2.0 + number % 7 for number in range(NUM_RECORDINGS)])
    (lab / "sounds" / "bad.wav").write_bytes(b"no sound")
    assert start(lab, tmp_path / "whole").wait() == 0
    chance, number, kills = random.Random(5), 0, 0
    while kills < NUM_KILLS:
        out = tmp_path / f"new {number}"
        process = start(lab, out)
        wanted = num_done(out) + chance.randint(0, 2)
        while num_done(out) < wanted and process.poll() is None:
            time.sleep(0.002)
        time.sleep(0.1 * chance.random())
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL if kills % 5 else signal.SIGINT)
            process.wait()
            kills += 1
        else:  # it has come to its end before
            assert process.returncode == 0
            check_equal(tmp_path / "whole", out)
            number += 1
    assert start(lab, out).wait() == 0
    check_equal(tmp_path / "whole", out)


def check_equal(whole: Path, out: Path) -> None:
    names = sorted(path.relative_to(out) for path in (out / "raw").rglob("*.*"))
    assert len(names) == NUM_RECORDINGS + 1
    names += [Path("rejects.csv"), Path("detections.csv")]
    names += [Path("predictions.parquet"), Path("detections.parquet")]
    _, *different = filecmp.cmpfiles(whole, out, names, shallow=False)
    assert different == [[], []]
    assert list((out / ".tmp").iterdir()) == []
