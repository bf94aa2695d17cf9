"""Checks README, CONTRIBUTING and docs: commands parse, links and paths exist."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.paths import ROOT
from tools.cli.command import run

FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# before a command starts
MUST_EXIST = ["data/nasty/19_one_hour_mono_16k.ogg", "configs/exp_001.yaml"]
LAYERS = ("storage", "datasets", "training", "tools")
FOLDERS = "storage|datasets|training|tools|tests|configs"


def printed_commands() -> list[str]:
    """Returns all calls of a command in code blocks, in `code`, and in docstrings of commands."""
    files = [*FILES, *(ROOT / "tools").glob("*.py")]
    texts = [re.sub(r" \\+\n", " ", file.read_text(encoding="utf-8")) for file in files]
    calls = set()
    for text in texts:
        found = re.findall(r"^    (python -m tools\.[a-z].*)", text, re.MULTILINE)
        found += re.findall(r"`(python -m tools\.[a-z][^`]*)`", text)
        calls |= {" ".join(call.split()) for call in found}
    return sorted(calls - {"python -m tools.benchmark"})  # without a name it lists the benchmarks


def test_there_are_commands() -> None:
    assert len(printed_commands()) > 80


@pytest.mark.parametrize("line", printed_commands())
def test_a_printed_command_is_valid(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in MUST_EXIST:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("seed: 0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    _, _, module, *words = shlex.split(line, comments=True)
    if module == "tools.benchmark":
        module = f"tools.benchmarks.{words.pop(0).replace('-', '_')}"
    command = importlib.import_module(module).COMMAND
    if "--help" in words:
        return
    assert run(command, lambda _config, _arguments: 0, words) == 0


def test_all_calls_have_one_form() -> None:
    texts = [file.read_text(encoding="utf-8") for file in FILES]
    assert [line for text in texts for line in text.splitlines() if "uv run python" in line] == []


def test_commands_and_scripts_run_from_any_folder(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "sounds" / label).mkdir(parents=True)
        soundfile.write(tmp_path / "sounds" / label / f"{label}.wav", np.zeros(8000), 8000)
    script = "from storage.store import open_store; print(open_store)"
    calls = [
        ["-m", "tools.build_store", "source.root=sounds", "--dry-run"],
        ["-c", script],
        ["-m", "tools"],
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for call in calls:
        done = subprocess.run([sys.executable, *call], cwd=tmp_path, env=environment, check=False)
        assert done.returncode == 0, call
    assert [path.name for path in tmp_path.iterdir()] == ["sounds"]


def test_a_folder_for_own_scripts_is_left_alone() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    call = ["git", "-C", str(ROOT), "check-ignore", "-q", "own/script.py"]
    assert subprocess.run(call, check=False).returncode == 0  # ruff leaves out what git ignores


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_links_and_paths_exist(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    paths = re.findall(rf"`((?:{FOLDERS})/[\w/.]+\.(?:py|yaml))`", text)
    paths = [path for path in paths if "NAME" not in path]
    assert [link for link in links if not (file.parent / link).exists()] == []
    made = re.compile(r"configs/exp_\d+\.yaml")  # by an experiment
    assert [path for path in paths if not made.match(path) and not (ROOT / path).exists()] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160


def test_slices_are_scaled_by_their_encoding_alone() -> None:
    """A division by 255 is right for one of the encodings only."""
    code = [path for layer in LAYERS for path in (ROOT / layer).rglob("*.py")]
    divided = re.compile(r"(?<!\d)/ ?255\b")
    found = [path.name for path in [*FILES, *code] if divided.search(path.read_text("utf-8"))]
    assert set(found) <= {"encoding.py"}
