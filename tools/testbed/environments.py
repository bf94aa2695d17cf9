"""Environments of their own for what is not ours: other libraries, a server. Each is made once.

`uv` makes them where it is found, and shares what they have in common by hard links; else pip
does. Packages come from where the user's own do: an index set in uv's or pip's settings holds here
too. Several processes may ask at once; one makes it, the others wait.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from storage.errors import StoreError
from tools.cli.checkout import ROOT

READY = "ready.json"
INSTALL_TIMEOUT_S = 1800


def python_with(requirements: Sequence[str], folder: Path) -> Path:
    """The interpreter of the environment in a folder, which is made if it is not there.

    Raises StoreError where it cannot be; the first requirement stands for all in its message.
    """
    python = folder / "bin" / "python"
    wanted = {"requirements": [*requirements]}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with this process
        if (folder / READY).is_file() and json.loads((folder / READY).read_text()) == wanted:
            return python
        if folder.exists():
            shutil.rmtree(folder)
        print(f"making an environment for {requirements[0]} in {folder}", file=sys.stderr)
        for command in _install_commands(folder, python, requirements):
            _run(command, requirements[0])
        (folder / READY).write_text(json.dumps(wanted), encoding="utf-8")
    return python


def _install_commands(folder: Path, python: Path, requirements: Sequence[str]) -> list[list[str]]:
    uv = shutil.which("uv") or shutil.which(str(ROOT / ".uv" / "bin" / "uv"))
    if uv:
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", str(python), *requirements],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", *requirements],
    ]


def _run(command: list[str], what: str) -> None:
    """Runs one step outside the checkout, whose pyproject.toml is not theirs."""
    env = {"UV_SYSTEM_CERTS": "1", **os.environ}
    for name in ("VIRTUAL_ENV", "PYTHONPATH"):
        env.pop(name, None)
    with tempfile.TemporaryDirectory() as elsewhere:
        try:
            done = subprocess.run(
                command,
                cwd=elsewhere,
                env=env,
                capture_output=True,
                text=True,
                timeout=INSTALL_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StoreError(f"{what} cannot be installed: {error}") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise StoreError(f"{what} cannot be installed: {lines[-1].strip()}")
