"""An environment of its own for each peer, made once: no two of them have to agree on versions.

`uv` makes them where it is found, and shares what they have in common by hard links; else pip
does, which takes some GB each, since torch is in all of them. Packages come from where the user's
own do: an index set in uv's or pip's settings holds here too.
"""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from storage.errors import StoreError
from tools.benchmarks.process import ROOT

DEFAULT_FOLDER = Path("~/.cache/melbank/peers")
READY = "ready.json"
INSTALL_TIMEOUT_S = 1800


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A library, its version range, and what else it needs at the time of writing."""

    name: str
    package: str
    versions: str
    more: tuple[str, ...] = ()

    @property
    def requirements(self) -> list[str]:
        """What is installed: the library, numpy, and torch in our own version."""
        torch = importlib.metadata.version("torch").partition("+")[0]
        return [f"{self.package}{self.versions}", f"torch=={torch}", "numpy>=1.26", *self.more]


PEERS = {
    peer.name: peer
    for peer in (
        Peer(name="webdataset", package="webdataset", versions=">=1.0,<2"),
        Peer(name="mosaicml", package="mosaicml-streaming", versions=">=0.11,<1"),
        Peer(name="litdata", package="litdata", versions=">=0.2.50,<1"),
        Peer(name="huggingface", package="datasets", versions=">=4,<6"),
        Peer(name="lance", package="pylance", versions=">=0.38,<9"),
        Peer(name="hdf5", package="h5py", versions=">=3.13,<4"),
        Peer(name="zarr", package="zarr", versions=">=3.1,<3.2"),
    )
}


def python_of(peer: Peer, env_dir: str) -> Path:
    """The interpreter of a peer's environment, which is made if it is not there.

    Raises StoreError where it cannot be.
    """
    root = Path(env_dir).expanduser() if env_dir else DEFAULT_FOLDER.expanduser()
    folder = root / f"{peer.name}-py{sys.version_info.major}{sys.version_info.minor}"
    python = folder / "bin" / "python"
    wanted = {"requirements": peer.requirements}
    if (folder / READY).is_file() and json.loads((folder / READY).read_text()) == wanted:
        return python
    if folder.exists():
        shutil.rmtree(folder)
    root.mkdir(parents=True, exist_ok=True)
    print(f"making an environment for {peer.package} in {folder}", file=sys.stderr, flush=True)
    for command in _install_commands(folder, python, peer.requirements):
        _run(command, peer)
    (folder / READY).write_text(json.dumps(wanted), encoding="utf-8")
    return python


def _install_commands(folder: Path, python: Path, requirements: list[str]) -> list[list[str]]:
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


def _run(command: list[str], peer: Peer) -> None:
    """Runs one step outside the checkout, whose pyproject.toml is not the peer's."""
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
            raise StoreError(f"{peer.package} cannot be installed: {error}") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise StoreError(f"{peer.package} cannot be installed: {lines[-1].strip()}")
