"""A dataclass field that carries its own line of `--help`.

Config classes live beside the code they configure; the tools read the help text from here.
"""

from dataclasses import field
from typing import Any


def option(default: Any, text: str) -> Any:
    """A config field with a default and one line of help, units included.

    A list default is copied for each instance, as `dataclasses` demands.
    """
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})
