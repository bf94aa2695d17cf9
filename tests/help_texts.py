"""Helps of all commands and benchmarks, with the modules that each imports, of one process.

Commands that need heavy modules for a help import them there: those that come first are to blame.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

from tests.paths import ROOT
from tools.benchmark import BENCHMARKS

HEAVY = {"librosa", "matplotlib", "pytorch_lightning", "scipy", "sklearn", "timm", "torch", "zarr"}
COMMANDS = sorted(path.stem for path in (ROOT / "tools").glob("[!_]*.py"))
_REPORT = f"""
import contextlib, io, json, runpy, sys

helps = {{}}
for line in json.loads(sys.stdin.read()):
    module, *words = line.split()
    before = set(sys.modules)
    sys.argv = [module, *words, "--help"]
    sys.modules.pop(module, None)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code
    heavy = sorted({HEAVY} & set(sys.modules) - before)
    helps[line] = [out.getvalue(), code, heavy]
print(json.dumps(helps))
"""


@dataclass(frozen=True, slots=True)
class Help:
    """Text of a help, its exit code, and the heavy modules that it imports."""

    text: str
    code: int
    heavy: list[str]


@cache
def help_texts() -> dict[str, Help]:
    """The help of each command, as `tools.train`, and benchmark, as `tools.benchmark read`."""
    lines = [f"tools.{name}" for name in COMMANDS]
    lines += [f"tools.benchmark {name}" for name in BENCHMARKS]
    done = subprocess.run(
        [sys.executable, "-c", _REPORT],
        input=json.dumps(lines),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {line: Help(*found) for line, found in json.loads(done.stdout).items()}
