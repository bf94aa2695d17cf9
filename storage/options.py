"""A dataclass field that carries its own line of `--help`, and a check of such fields.

Config classes live beside the code they configure; the tools read the help text from here.
"""

from dataclasses import field
from typing import Any

from storage.errors import ConfigError


def option(default: Any, text: str) -> Any:
    """A config field with a default and one line of help, units included.

    A list default is copied for each instance, as `dataclasses` demands.
    """
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


def check_at_least(config: object, section: str, least: int, *names: str) -> None:
    """Raises ConfigError unless each of these fields of a config is None or at least so much."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < least:
            raise ConfigError(f"{section}.{name}={value} must be at least {least}")
