"""Writes the config of an experiment; reads one, which may be another's.

What is read are plain values, and not too many.

write_settings(experiment, asdict(config))
begun, config = read_settings(Path("configs/exp_001.yaml"))
"""

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from storage.errors import ConfigError
from training.experiments.experiment import Experiment

PACKAGES = ("torch", "pytorch-lightning", "timm", "numpy", "polars", "zarr")
MAX_BYTES = 1 << 20  # ours have some kB
MAX_DEPTH = 20


def write_settings(experiment: Experiment, settings: Mapping[str, Any]) -> None:
    """Writes the resolved config, plain values; versions and commit stand above as comments.

    The file is a config: `--config configs/exp_001.yaml` does the same again.
    """
    made = datetime.now(UTC).isoformat(timespec="seconds")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    lines = [
        f"# {experiment.name}, begun {made}",
        f"# Python {platform.python_version()}, {versions}",
        f"# source: {describe_commit()}",
        OmegaConf.to_yaml(OmegaConf.create(dict(settings))),
    ]
    experiment.config_file.write_text("\n".join(lines), encoding="utf-8")


def describe_commit() -> str:
    """The git commit of this checkout, and whether files differ from it."""
    words = ["--always", "--exclude=*", "--abbrev=40", "--dirty=, with changes"]
    command = ["git", "-C", str(Path(__file__).parents[2]), "describe", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
    return f"commit {done.stdout.strip()}"


def read_settings(path: Path) -> tuple[str, dict[str, Any]]:
    """When it was begun, to the minute, and its sections; ConfigError where it is not plain.

    `write_settings` writes values alone, so a reference into the environment (`${oc.env:HOME}`) or
    to another key is not of its making and is not looked up.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{path} has more than {MAX_BYTES >> 20} MiB: it is no config")
        text = content.decode()
        _check_plain(path, text)
        values = OmegaConf.to_container(OmegaConf.create(text)) if text.strip() else {}
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: it is no YAML") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is damaged: it is no mapping of sections")
    begun = text.partition("begun ")[2].partition("\n")[0][:16]
    return begun, {str(key): value for key, value in values.items()}


def _check_plain(path: Path, text: str) -> None:
    """Raises ConfigError on references, and on values that are nested too deep."""
    if "${" in text:
        raise ConfigError(
            f"{path} refers to other values by ${{...}}: an experiment's config has plain values "
            "only; write the value itself there if you trust the file"
        )
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{path} repeats values by aliases: a config has plain values only")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ConfigError(f"{path} has values more than {MAX_DEPTH} deep: it is no config")
