"""Version of the code and packages that make slices, to compare processes on several machines.

Builders of one store must make the same bytes, so a worker of another version is refused.
"""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import storage

PACKAGES = ("numpy", "torch", "polars", "soundfile", "soxr", "librosa", "numcodecs", "zstandard")
CODE = "melbank"


@cache
def code_version() -> dict[str, str]:
    """Versions by name: of this code, a hash of its files; of packages, as they are installed.

    Found out once for a process, at first use: code that is replaced while it runs is not what it
    has loaded.
    """
    folder = Path(storage.__file__).parent
    hasher = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        hasher.update(f"{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    return {CODE: hasher.hexdigest()[:12], **{name: _installed(name) for name in PACKAGES}}


def version_difference(here: dict[str, str], there: dict[str, str]) -> str:
    """Says in what a process has another version; empty where it has not."""
    for name, ours in here.items():
        theirs = there.get(name, "none")
        if theirs != ours:
            return f"{name} {theirs} in place of {ours}"
    return ""


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
