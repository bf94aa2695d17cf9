"""Checks README, CONTRIBUTING and docs: commands parse, links and paths exist."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from tests.paths import ROOT
from tools.cli.command import run

FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MUST_EXIST = ["data/nasty/19_one_hour_mono_16k.ogg"]  # before a command starts
LAYERS = ("storage", "datasets", "training", "tools")
FOLDERS = "storage|datasets|training|tools|tests|configs"


def printed_commands() -> list[str]:
    """Returns the lines of code blocks that call a command, continuation lines joined."""
    texts = [file.read_text(encoding="utf-8").replace("\\\n", " ") for file in FILES]
    lines = {line for text in texts for line in text.splitlines()}
    return sorted(line.strip() for line in lines if line.startswith("    python -m tools."))


def test_there_are_commands() -> None:
    assert len(printed_commands()) > 40


@pytest.mark.parametrize("line", printed_commands())
def test_a_printed_command_is_valid(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name in MUST_EXIST:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    _, _, module, *words = shlex.split(line, comments=True)
    if module == "tools.benchmark":
        module = f"tools.benchmarks.{words.pop(0).replace('-', '_')}"
    command = importlib.import_module(module).COMMAND
    assert run(command, lambda _config, _arguments: 0, words) == 0


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
