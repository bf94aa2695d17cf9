"""Output of commands fits 80 columns, and uses what a wider terminal has."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import tools.experiments
from tests.paths import ROOT
from tools.cli.command import run
from tools.cli.terminal import fit_columns, shorten

COMMANDS = sorted(path.stem for path in (ROOT / "tools").glob("[!_]*.py"))


def printed_help(name: str, columns: int, monkeypatch, capsys) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    command = importlib.import_module(f"tools.{name}").COMMAND
    with pytest.raises(SystemExit):
        run(command, lambda *_: 0, ["--help"])
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "benchmark"])
def test_a_help_fits_80_columns_and_has_remote_last(name: str, monkeypatch, capsys) -> None:
    lines = printed_help(name, 80, monkeypatch, capsys)
    assert max(map(len, lines)) <= 80
    assert len(printed_help(name, 140, monkeypatch, capsys)) <= len(lines)
    keys = [line.split("=")[0].strip() for line in lines if line[:2] == "  " and "=" in line[:34]]
    remote = [place for place, key in enumerate(keys) if key.startswith("remote.")]
    assert remote == list(range(len(keys) - len(remote), len(keys)))


def test_the_most_used_keys_of_a_training_come_first(monkeypatch, capsys) -> None:
    lines = printed_help("train", 80, monkeypatch, capsys)
    keys = [line.split("=")[0].strip() for line in lines if line.startswith("  ") and "=" in line]
    first = keys.index("store")
    assert keys[first : first + 2] == ["store", "shards"]


def test_all_commands_are_listed_in_80_columns() -> None:
    call = [sys.executable, "-m", "tools"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True)
    listed = [line.split()[0] for line in done.stdout.splitlines()[2:]]
    assert listed == COMMANDS
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_table_has_the_columns_that_fit() -> None:
    header, lines = ["name", "long", "score"], [["a", "x" * 30, "1.5"], ["bb", "y", "12.5"]]
    narrow = fit_columns(header, lines, first=("name", "score"), width=20)
    assert narrow.splitlines() == ["name  score", "a       1.5", "bb     12.5"]
    assert fit_columns(header, lines).splitlines()[0].split() == header
    assert shorten("abcdef", 4) == "abc…"


def test_experiments_fit_80_columns_and_show_the_whole_reason(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "configs").mkdir()
    reason = "ConfigError: " + " ".join(f"word{number}" for number in range(40))
    (tmp_path / "configs" / ".exp_001").write_text(f"failed: {reason}\n", encoding="utf-8")
    config = ["--config", str(ROOT / "configs" / "base.yaml"), f"experiment.root={tmp_path}"]
    assert run(tools.experiments.COMMAND, tools.experiments.main, config) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert reason in " ".join(out.split())
