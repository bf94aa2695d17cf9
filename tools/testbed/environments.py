"""Virtual environments for other libraries and for a server, made by uv on first use.

Packages come from the user's index, where one is set in uv's settings. Several processes may ask
at once; one installs, the others wait.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from storage.errors import StoreError
from tools.cli.checkout import ROOT

READY = "ready.json"
INSTALL_TIMEOUT_S = 1800


def python_with(requirements: Sequence[str], folder: Path) -> Path:
    """Returns the interpreter of the environment in a folder, which is made if it is missing.

    Raises StoreError where it cannot be made; the message names the first requirement.
    """
    python, ready = folder / "bin" / "python", folder / READY
    wanted = json.dumps({"requirements": [*requirements]})
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with this process
        if ready.is_file() and ready.read_text() == wanted:
            return python
        print(f"making an environment for {requirements[0]} in {folder}", file=sys.stderr)
        try:
            _uv("venv", "--clear", "--python", sys.executable, str(folder))
            _uv("pip", "install", "--python", str(python), *requirements)
        except StoreError as error:
            raise StoreError(f"{requirements[0]} cannot be installed: {error}") from error
        ready.write_text(wanted, encoding="utf-8")
    return python


def _uv(*words: str) -> None:
    """Runs uv outside the checkout, whose pyproject.toml does not apply here."""
    uv = shutil.which("uv") or shutil.which(str(ROOT / ".uv" / "bin" / "uv"))
    if uv is None:
        raise StoreError("uv is not installed; `make setup` does it")
    env = {"UV_SYSTEM_CERTS": "1", **os.environ}
    for name in ("VIRTUAL_ENV", "PYTHONPATH"):
        env.pop(name, None)
    command = [uv, "--quiet", *words]
    try:
        subprocess.run(
            command, cwd="/", env=env, timeout=INSTALL_TIMEOUT_S, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or ["no reason given"]
        raise StoreError(lines[-1].strip()) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StoreError(str(error)) from error
