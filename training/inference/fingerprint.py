"""Fingerprint of a run: all that decides its raw results, and in what two runs differ.

The format of the outputs, post-processing, the number of workers and the batch size are not part of
it: the first two are made from the raw results, the others do not change them.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from storage.checksums import digest_json
from storage.recipe import Recipe
from storage.source.listing import shown_name
from training.inference.members import Branch
from training.inference.model_files import ModelFiles, describe_files
from training.inference.reading.inputs import InputRecording

MAX_SHOWN = 5
FIRST_DIGITS = 12  # of a digest in a message


def settled(
    models: Sequence[ModelFiles], branches: Sequence[Branch], windows: Recipe, **others: Any
) -> dict[str, Any]:
    """The values that decide the results, plain: models, recipes, windows, and `others`."""
    recipes = [member.recipe.to_dict() for branch in branches for member in branch.members]
    files = [
        {**file, "recipe": digest_json(recipe)[:FIRST_DIGITS]}
        for file, recipe in zip(describe_files(models), recipes, strict=True)
    ]
    return {
        "branches": [branch.name for branch in branches],
        "models": {f"{file['branch']}: {Path(file['path']).name}": _model(file) for file in files},
        "windows": {
            "length_s": windows.slice_s,
            "step_s": windows.slice_step_s,
            "sample_rate_hz": windows.sample_rate_hz,
            "tail_min_s": windows.tail_min_s,
            "padding": windows.padding,
        },
        **others,
    }


def _model(file: Mapping[str, str]) -> str:
    return f"sha256 {file['sha256'][:FIRST_DIGITS]}, recipe {file['recipe']}"


def listed(recordings: Iterable[InputRecording]) -> dict[str, str]:
    """The recordings as plain values, by name: size and time, or the place of unknown ones."""
    return {one.recording_id: one.version or shown_name(one.path) for one in recordings}


def differences(then: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Sentences on the values that differ: `windows.step_s was 5.0, is 2.5`."""
    found: list[str] = []
    for name in dict.fromkeys([*then, *now]):
        before, after = then.get(name), now.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{name}.")
        elif name not in then:
            found.append(f"{prefix}{name} is new")
        elif name not in now:
            found.append(f"{prefix}{name} is gone")
        elif before != after:
            found.append(f"{prefix}{name} was {before}, is {after}")
    return found


def shown(sentences: list[str]) -> str:
    """The first of several sentences, and how many more there are."""
    more = f"; and {len(sentences) - MAX_SHOWN:,} more" if len(sentences) > MAX_SHOWN else ""
    return "; ".join(sentences[:MAX_SHOWN]) + more
