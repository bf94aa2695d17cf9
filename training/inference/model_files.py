"""Files of the models of a run; needs no torch, so that a wrong name is noticed at once.

    models = find_models(["exp_003", "exp_007/fold_1", "model.onnx"], root=Path("."))

Each entry is a branch: an experiment stands for the folds that it has.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from storage.checksums import digest_file
from storage.errors import ConfigError

ONNX, OPENVINO = ".onnx", ".xml"
EXPORTS = (ONNX, OPENVINO)
CHECKPOINT = ".ckpt"
PROBE = ".safetensors"
KINDS = (CHECKPOINT, *EXPORTS, PROBE)
ENTRY = re.compile(r"(exp_\d+)(?:/fold_(\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """The files of a branch, found before any of them is read."""

    name: str
    files: tuple[Path, ...]


def find_models(given: Sequence[str], root: Path, *, key: str = "predict.from") -> list[ModelFiles]:
    """The files of each entry of a config key; ConfigError, naming the key, where there are none.

    `root` is the folder with weights/, in which experiments are looked for.
    """
    found = []
    for entry in given:
        files = _files_of(entry, root, key)
        found.append(ModelFiles(name=_short_name(entry), files=tuple(files)))
    names = [one.name for one in found]
    if len(set(names)) < len(names):  # files of equal names in several folders
        found = [replace(one, name=entry) for one, entry in zip(found, given, strict=True)]
    if len({one.name for one in found}) < len(found):
        raise ConfigError(f"{key}={','.join(given)} names a model twice")
    return found


def _files_of(entry: str, root: Path, key: str) -> list[Path]:
    path = Path(entry)
    if path.suffix in KINDS and path.is_file():
        return [path]
    named = ENTRY.fullmatch(entry)
    folder = root / "weights" / named[1] if named else path
    if named and named[2] is not None:
        for kind in KINDS:
            path = folder / f"fold_{named[2]}{kind}"
            if path.is_file():
                return [path]
    if not folder.is_dir():
        raise ConfigError(
            f"{key}={entry}: there is no such experiment in {root / 'weights'}, and no such "
            "file or folder; python -m tools.experiments lists experiments"
        )
    found = (sorted(folder.glob(f"*{kind}")) for kind in KINDS)
    files = next((files for files in found if files), [])
    if not files or (named and named[2] is not None):
        there = ", ".join(file.stem for file in files) or "no checkpoint yet"
        raise ConfigError(f"{key}={entry}: {folder} has {there}; give one of those")
    return files


def _short_name(entry: str) -> str:
    return entry if ENTRY.fullmatch(entry) else Path(entry).name


def describe_files(models: Sequence[ModelFiles]) -> list[dict[str, str]]:
    """Branch, path and sha256 of each file, for records."""
    return [
        {"branch": one.name, "path": str(file), "sha256": digest_file(file)}
        for one in models
        for file in one.files
    ]
