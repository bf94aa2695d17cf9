"""A dataclass field that carries its own line of `--help`, and the checks of such fields.

Config classes are defined next to the code they configure; the tools read the help text from here.
"""

from collections.abc import Iterable
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


def check_choice(config: object, section: str, name: str, choices: Iterable[str]) -> None:
    """Raises ConfigError unless the field, or each entry of a list, is one of the choices."""
    choices, value = tuple(choices), getattr(config, name)
    for entry in value if isinstance(value, list | tuple) else [value]:
        if entry not in choices:
            raise ConfigError(f"{_key(section, name)}={entry} is none of {', '.join(choices)}")


def check_between(
    config: object, section: str, least: float, most: float, *names: str, below: bool = False
) -> None:
    """Raises ConfigError unless each field is from `least` to `most`, or `below` the latter."""
    for name in names:
        value = getattr(config, name)
        if not least <= value <= most or (below and value == most):
            end = f"below {most}" if below else str(most)
            given = f"{_key(section, name)}={_shown(value)}"
            raise ConfigError(f"{given} must lie between {least} and {end}")


def check_at_least(config: object, section: str, least: float, *names: str) -> None:
    """Raises ConfigError unless each field is None or, with all its entries, at least so much."""
    for name in names:
        value = getattr(config, name)
        entries = value if isinstance(value, list | tuple) else [value]
        if not all(entry is None or entry >= least for entry in entries):
            raise ConfigError(f"{_key(section, name)}={_shown(value)} must be at least {least}")


def check_positive(config: object, section: str, *names: str) -> None:
    """Raises ConfigError unless each field is None or above 0."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ConfigError(f"{_key(section, name)}={_shown(value)} must be positive")


def check_order(config: object, section: str, lower: str, upper: str) -> None:
    """Raises ConfigError where the first of two fields is more than the second."""
    low, high = getattr(config, lower), getattr(config, upper)
    if not low <= high:
        raise ConfigError(
            f"{_key(section, lower)}={low} is more than {_key(section, upper)}={high}"
        )


def _shown(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, float) else value


def _key(section: str, name: str) -> str:
    return f"{section}.{name}" if section else name
