"""Metadata in an exported file: labels, recipe, output and names, as JSON under `melbank.*`.

    metadata.to_entries()             # to be written into the file's metadata_props
    ExportMetadata.parse(entries)     # from a file of any origin

A file may be anybody's: every value is checked for its type and range before it is used.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from datasets.labels import Labels
from storage.errors import ConfigError, StoreError
from storage.recipe import Recipe
from storage.untrusted import parse_json, record_of, text_of
from training.model.config import OUTPUTS

FORMAT = 1
PREFIX = "melbank."
SLICES, WAVEFORM = "slices", "waveform"
PROBABILITIES, LOGITS, EMBEDDING = "probabilities", "logits", "embedding"
FRAMES = "frame_logits"  # of models with a SED head
MAX_ENTRY_BYTES = 16 << 20

Names = dict[str, dict[str, str]]  # by label: columns of a taxonomy


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportMetadata:
    """Meaning of an exported classifier.

    `input`: `slices`, float32 [B, M, T] in [0, 1], or `waveform`, float32 [B, samples] at the
    recipe's rate, full scale 1. `models`: of each checkpoint its name, fold, epoch, sha256 and
    model config. `names`: by label, columns of a taxonomy. `post`: the post-processing steps.
    """

    input: str
    labels: Labels
    recipe: Recipe
    output: str  # softmax or sigmoid
    version: str  # of melbank
    models: list[dict[str, Any]] = field(default_factory=list)
    names: Names = field(default_factory=dict)
    post: list[Any] = field(default_factory=list)

    def to_entries(self) -> dict[str, str]:
        """Entries of a file's metadata: names with the prefix, values in JSON."""
        values = {
            "format": FORMAT,
            "input": self.input,
            "labels": list(self.labels.names),
            "recipe": self.recipe.to_dict(),
            "output": self.output,
            "version": self.version,
            "models": self.models,
            "names": self.names,
            "post": self.post,
        }
        return {f"{PREFIX}{name}": json.dumps(value) for name, value in values.items()}

    def summary(self) -> str:
        """Classes, models and input, in words."""
        models = "1 model" if len(self.models) == 1 else f"mean of {len(self.models)} models"
        bands, frames = self.recipe.slice_shape
        shape = f"{bands} x {frames}" if self.input == SLICES else f"{self.recipe.slice_samples:,}"
        return f"{models}, {len(self.labels)} classes, {self.input} of {shape}, {self.output}"

    @classmethod
    def parse(cls, entries: Mapping[str, str]) -> Self:
        """Parses the entries of a file; ValueError, naming the entry, where they are not ours."""
        values = {
            name.removeprefix(PREFIX): _parse_entry(name, text)
            for name, text in entries.items()
            if name.startswith(PREFIX)
        }
        if values.get("format") != FORMAT:
            raise ValueError(
                f"its format is {values.get('format')!r:.40}, and this version reads {FORMAT}"
            )
        texts = {name: text_of(values, name) for name in ("input", "output", "version")}
        if texts["input"] not in (SLICES, WAVEFORM) or texts["output"] not in OUTPUTS:
            raise ValueError(f"its input {texts['input']:.40} or output {texts['output']:.40}")
        return cls(
            **texts,
            labels=_parse_labels(values.get("labels")),
            recipe=parse_recipe(values.get("recipe")),
            models=[record_of(one, "a model") for one in _list_of(values, "models")],
            names=parse_names(values.get("names")),
            post=_list_of(values, "post"),
        )


def has_metadata(entries: Mapping[str, str]) -> bool:
    """True for entries of a file that melbank has exported."""
    return any(name.startswith(PREFIX) for name in entries)


def _parse_entry(name: str, text: str) -> Any:
    if len(text) > MAX_ENTRY_BYTES:
        raise ValueError(f"its {name:.40} has more than {MAX_ENTRY_BYTES:,} bytes")
    return parse_json(text.encode())


def _list_of(values: Mapping[str, Any], name: str) -> list[Any]:
    value = values.get(name)
    if not isinstance(value, list):
        raise ValueError(f"its {name} is no list")
    return value


def _parse_labels(value: Any) -> Labels:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("its labels are no list of names")
    return Labels(tuple(value))


def parse_recipe(value: Any) -> Recipe:
    """Parses a recipe from untrusted JSON; ValueError where it is none."""
    try:
        return Recipe.parse(record_of(value, "its recipe"))
    except (TypeError, ConfigError, StoreError) as error:
        raise ValueError(f"its recipe: {error}") from error


def parse_names(value: Any) -> Names:
    """Parses names of classes from untrusted JSON; ValueError where they are none."""
    names = record_of(value, "its names")
    for label, columns in names.items():
        if not all(isinstance(text, str) for text in record_of(columns, "a name").values()):
            raise ValueError(f"its names of {label:.40} are no texts")
    return names
