"""User functions: pure functions that a config names as `module:function`.

    sampling.slice_choice=my_choices:early

The module is imported from the Python path or the current folder. Equal arguments must give equal
results: no generator, no clock, no state.
"""

import importlib
from collections.abc import Callable
from typing import Any

from storage.errors import ConfigError


def is_user_function(name: str) -> bool:
    """True where a name is that of a user function."""
    return ":" in name


def load_function(name: str, *, key: str) -> Callable[..., Any]:
    """Imports `module:function`; raises ConfigError, naming `key`, where there is none."""
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name, None)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{key}={name}: {error}; give module:function, found from the folder of the command"
        ) from error
    if not callable(function):
        raise ConfigError(f"{key}={name}: {module_name} has no function {function_name!r}")
    found: Callable[..., Any] = function
    return found
