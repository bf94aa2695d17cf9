"""training.runtime.watch: a process whose rank has ended does not wait for it."""

import subprocess
import sys
import time

import pytest

from tests.paths import ROOT

FIRST = """
import subprocess, sys, threading, time
from types import SimpleNamespace
from training.runtime.watch import OBSERVER, RankWatch

other = subprocess.Popen([sys.executable, "-c", {program!r}])
observer = threading.Thread(target=time.sleep, args=(60,), name=OBSERVER, daemon=True)
observer.start()
watch = RankWatch(2, lambda: "; go on")
watch.follow(SimpleNamespace(procs=[other]))
with watch.watching():
    time.sleep({sleep_s})
print("done")
"""
SECOND = """
import os, time
from training.runtime.watch import FIRST_PID, RankWatch

os.environ["LOCAL_RANK"] = "1"
os.environ[FIRST_PID] = "1" if os.getppid() != 1 else "2"
with RankWatch(2, lambda: "; go on").watching():
    time.sleep(60)
"""


def check(program: str) -> tuple[int, str, str]:
    call = [sys.executable, "-c", program]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "import os; os.kill(os.getpid(), 9)",
            "rank 1 was killed (SIGKILL), most likely by a lack",
        ),
        ("raise SystemExit(3)", "rank 1 has ended with exit code 3; its error is above"),
    ],
    ids=["killed", "failed"],
)
def test_the_first_rank_does_not_wait_for_one_that_has_ended(program: str, said: str) -> None:
    begin = time.monotonic()
    code, _, error = check(FIRST.format(program=program, sleep_s=60))
    assert code == 1
    assert error.startswith(f"error: rank 0 of 2 ends because {said}")
    assert error.endswith("; go on\n")
    assert time.monotonic() - begin < 30


def test_ranks_that_end_well_are_no_loss() -> None:
    code, out, error = check(FIRST.format(program="pass", sleep_s=1))
    assert (code, out, error) == (0, "done\n", "")


def test_another_rank_does_not_outlive_the_first() -> None:
    code, _, error = check(SECOND)
    assert (code, error) == (1, "error: rank 1 of 2 ends because rank 0 has ended; go on\n")
