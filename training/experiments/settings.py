"""Reads the config of an experiment, which may be another's: plain values, and not too many.

begun, config = read_settings(Path("configs/exp_001.yaml"))
"""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from storage.errors import ConfigError

MAX_BYTES = 1 << 20  # ours have some kB
MAX_DEPTH = 20


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
