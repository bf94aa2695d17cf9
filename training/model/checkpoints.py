"""Checkpoints that are enough by themselves: weights, and what they mean, in plain values.

    classifier = read_checkpoint("weights/exp_001/fold_0.ckpt")
    logits, embedding = classifier.model(slices)
    classifier.labels, classifier.recipe, classifier.config

Read with `weights_only=True`: opening a checkpoint runs no code of its author.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datasets.chunks import ChunkConfig, Chunks
from datasets.labels import Labels
from storage.errors import ConfigError, MelbankError, StoreError
from storage.recipe import Recipe
from training.model.config import ModelConfig
from training.model.groups import Groups, groups_to_plain, num_groups, parse_groups
from training.model.models import Classifier, build_classifier
from training.model.pretrained import COSINE_HEAD, KEY, MODEL_PREFIX, model_weights
from training.model.recipe_check import check_recipe
from training.model.torch_files import first_line, read_torch
from training.runtime.files import write_whole

FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedClassifier:
    """Contents of a checkpoint. `config` is the complete training config as plain values."""

    model: Classifier
    labels: Labels
    recipe: Recipe
    model_config: ModelConfig
    config: dict[str, Any]
    epoch: int
    fold: int
    path: str
    names: dict[str, dict[str, str]]  # of classes, by label and column of the taxonomy
    chunks: Chunks = field(default_factory=Chunks)  # the slices of a sample
    groups: tuple[Groups, ...] = ()  # of classes, that heads of their own have learned

    @property
    def sample_shape(self) -> tuple[int, int]:
        """Mel bands and frames of what the model takes: a slice, or a chunk of several."""
        return self.chunks.shape(self.recipe)

    def check_recipe(self, recipe: Recipe) -> None:
        """Raises ConfigError, naming the keys, where the slices of a store are other ones."""
        check_recipe(self.path, self.recipe, recipe)


def checkpoint_contents(
    labels: Labels,
    recipe: Recipe,
    config: dict[str, Any],
    *,
    fold: int,
    names: dict[str, dict[str, str]] | None = None,
    groups: Sequence[Groups] = (),
) -> dict[str, Any]:
    """Metadata next to the weights, under the key `melbank`; `config` as of `asdict`."""
    contents = {
        "format": FORMAT,
        "labels": list(labels.names),
        "names": {label: of for label, of in (names or {}).items() if label in labels.names},
        "recipe": recipe.to_dict(),
        "config": config,
        "fold": fold,
    }
    return contents | ({"groups": groups_to_plain(groups)} if groups else {})


def read_checkpoint(path: str | Path) -> TrainedClassifier:
    """The classifier of a checkpoint, on the CPU, in evaluation mode.

    Raises StoreError where the file is missing, no checkpoint, or of another format.
    """
    if not Path(path).exists():
        raise StoreError(f"{path} does not exist; look in weights/exp_XXX/fold_K.ckpt")
    checkpoint = read_torch(path)
    contents = checkpoint.get(KEY) if isinstance(checkpoint, dict) else None
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        raise StoreError(
            f"{path} is no checkpoint of melbank, or of another version of it; take a "
            "weights/exp_XXX/fold_K.ckpt that this version has written"
        )
    try:
        return _classifier(checkpoint, contents, path)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if isinstance(error, MelbankError):
            raise
        raise StoreError(
            f"{path} does not hold together ({first_line(error)}): train it again"
        ) from error


def put_weights(
    path: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any] | None = None
) -> None:
    """Puts weights of a classifier, by their names in it, into a checkpoint, in place.

    Others stay. `config` replaces sections of the training config. StoreError where the disk
    refuses; the file then is as it was.
    """
    contents = read_torch(path)
    for name, value in weights.items():
        contents["state_dict"][f"{MODEL_PREFIX}{name}"] = value
    if config:
        contents[KEY]["config"].update(config)
    data = io.BytesIO()
    torch.save(contents, data)
    write_whole(path, data.getvalue())


def _classifier(
    checkpoint: dict[str, Any], contents: dict[str, Any], path: str | Path
) -> TrainedClassifier:
    config = contents["config"]
    labels = Labels(tuple(contents["labels"]))
    recipe = Recipe.from_dict(contents["recipe"])
    model_config = _model_config(config["model"], path)
    chunks = Chunks.of(ChunkConfig(**config.get("chunk", {})), recipe)
    groups = parse_groups(contents.get("groups"), len(labels))
    model = build_classifier(
        model_config,
        num_classes=len(labels),
        slice_shape=chunks.shape(recipe),
        num_groups=num_groups(groups),
    )
    weights = model_weights(checkpoint["state_dict"], path)
    if any(name.startswith(COSINE_HEAD) for name in weights):
        model.add_cosine_head()
    model.load_state_dict(weights)
    return TrainedClassifier(
        model=model.eval(),
        labels=labels,
        recipe=recipe,
        model_config=model_config,
        config=config,
        epoch=int(checkpoint["epoch"]),
        fold=int(contents["fold"]),
        path=str(path),
        names=_names(contents.get("names")),
        chunks=chunks,
        groups=groups,
    )


def _names(values: Any) -> dict[str, dict[str, str]]:
    """The names of classes; none in checkpoints of earlier versions. TypeError on other things."""
    names = dict(values or {})
    for label, of in names.items():
        if not all(isinstance(text, str) for text in (label, *of, *of.values())):
            raise TypeError(f"the names of {str(label)[:40]} are no texts")
    return names


def _model_config(values: dict[str, Any], path: str | Path) -> ModelConfig:
    """The same architecture, without fetching the weights it began with."""
    try:
        return ModelConfig(**{**values, "pretrained": False, "weights_file": ""})
    except (TypeError, ConfigError) as error:
        raise StoreError(f"{path} describes a model of another version: {error}") from error
