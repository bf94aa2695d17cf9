"""Commands import only what they need: helps, lists and plans come at once."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.help_texts import COMMANDS, HEAVY, help_texts
from tests.paths import ROOT
from tests.small_store import SHORT, build_small_store
from tools.benchmark import BENCHMARKS

REPORT = f"""import atexit, sys
atexit.register(lambda: print(*{HEAVY} & sys.modules.keys(), file=sys.stderr))"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_small_store(tmp_path_factory.mktemp("imports"))


def imported_by(name: str, *words: str, allowed: frozenset[str] = frozenset()) -> set[str]:
    """Returns the heavy modules that a command has imported when it ends, which it must."""
    code = f"{REPORT}\nimport runpy; runpy.run_module('tools.{name}', run_name='__main__')"
    call = [sys.executable, "-c", code, *words]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout
    return set(done.stderr.splitlines()[-1].split()) - allowed


@pytest.mark.parametrize("name", COMMANDS)
def test_help_needs_no_heavy_module(name: str) -> None:
    assert help_texts()[f"tools.{name}"].heavy == []


@pytest.mark.parametrize("name", BENCHMARKS)
def test_help_of_a_benchmark_needs_no_heavy_module(name: str) -> None:
    assert help_texts()[f"tools.benchmark {name}"].heavy == []


def test_one_help_alone_needs_no_heavy_module() -> None:
    assert imported_by("train", "--help") == set()


def test_an_epoch_is_planned_without_torch(store: Path) -> None:
    words = (f"store={store}", *SHORT)
    assert imported_by("show_plan", *words, allowed=frozenset({"scipy"})) == set()


def test_experiments_are_listed_without_torch(tmp_path: Path) -> None:
    assert imported_by("experiments", f"experiment.root={tmp_path}") == set()


@pytest.mark.parametrize("module", ["yaml", "polars", "torch.functional"])
def test_ctrl_c_while_a_command_imports_shows_no_traceback(module: str, tmp_path: Path) -> None:
    call = [sys.executable, "-X", "importtime", "-m", "tools.train", f"store={tmp_path}"]
    seen = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child inherits SIG_IGN
    try:
        with subprocess.Popen(call, cwd=ROOT, stderr=subprocess.PIPE, text=True) as begun:
            for line in begun.stderr or ():  # one for each module
                seen.append(line)
                if line.rstrip().endswith(f" {module}"):
                    begun.send_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert begun.returncode in (130, -signal.SIGINT)
    text = "".join(seen)
    assert "Traceback" not in text
    assert "training starts" in text or module != "torch.functional"
