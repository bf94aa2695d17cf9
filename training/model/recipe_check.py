"""Checks that slices are of the recipe that a model has learned from; needs no torch."""

from dataclasses import asdict
from pathlib import Path

from storage.errors import ConfigError
from storage.recipe import Recipe

NOT_SEEN = ("slice_step_s", "tail_min_s", "encoding", "origin")  # by a model, which takes a slice


def check_recipe(path: str | Path, learned: Recipe, recipe: Recipe) -> None:
    """Raises ConfigError, naming the keys, where a model has learned from other slices."""
    then, now = asdict(learned), asdict(recipe)
    keys = [
        f"recipe.{name} is {then[name]} there, {now[name]} here"
        for name in then
        if name not in NOT_SEEN and then[name] != now[name]
    ]
    if keys:
        raise ConfigError(
            f"{path} has learned from slices of another recipe ({', '.join(keys)}): use it with a "
            "store of its own recipe"
        )
