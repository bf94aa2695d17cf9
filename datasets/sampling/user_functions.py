"""User functions: pure functions that a config names as `module:function`.

    sampling.slice_choice=my_choices:early

The module is imported from the Python path or the current folder. Equal arguments must give equal
results: no generator, no clock, no state.
"""

import importlib
import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from storage.errors import ConfigError

_MISTAKES = (  # errors that a wrong function, or module, ends in
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    pl.exceptions.PolarsError,
)


def is_user_function(name: str) -> bool:
    """True where a name is that of a user function."""
    return ":" in name


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFunction:
    """A function of the user's; raises ConfigError, with the `rule` for it, where it fails."""

    function: Callable[..., Any]
    shown: str
    rule: str

    def __call__(self, *given: Any) -> Any:
        """Calls the function."""
        try:
            return self.function(*given)
        except _MISTAKES as error:
            raise ConfigError(f"{self.shown} failed: {_described(error)}; {self.rule}") from error


def load_function(name: str, *, key: str, takes: str, gives: str) -> UserFunction:
    """Imports `module:function`; raises ConfigError, naming `key`, where there is none.

    `takes` names the arguments it must take, with commas between, and `gives` what it must return,
    for messages.
    """
    shown, arguments = f"{key}={name}", takes.split(", ")
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name, None)
    except _MISTAKES as error:
        raise ConfigError(
            f"{shown}: {_described(error)}; give module:function, found from the folder of the "
            "command"
        ) from error
    if not callable(function):
        raise ConfigError(f"{shown}: {module_name} has no function {function_name!r}")
    rule = f"it must take ({takes}) and return {gives}"
    try:
        signature = inspect.signature(function)
        signature.bind(*arguments)
    except TypeError as error:
        raise ConfigError(f"{shown} takes {signature}: {rule}") from error
    except ValueError:  # one written in C, which does not say what it takes
        pass

    return UserFunction(function=function, shown=shown, rule=rule)


def _described(error: Exception) -> str:
    """Returns an error's name, message and line, in one line."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    return f"{reason} (in {place.filename}, line {place.lineno})"
