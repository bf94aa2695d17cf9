"""Starts a classifier with the weights of a file: of a timm model, or a checkpoint of melbank.

    weights = read_weights("resnet18.safetensors")
    start_backbones(backbones, config)

A file that does not fit is refused with the names and shapes in which it differs.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import timm.models
from safetensors import SafetensorError
from torch import Tensor, nn

from storage.errors import ConfigError, MelbankError, StoreError
from storage.recipe import Recipe
from training.model.config import ModelConfig
from training.model.recipe_check import check_recipe
from training.model.torch_files import (
    UNREADABLE,
    first_line,
    name_mismatch,
    read_torch,
    tensors_of,
)

KEY = "melbank"  # of a checkpoint's own metadata
COSINE_HEAD = "cosine_head."  # in names of weights that are computed, not learned
MODEL_PREFIX, TEACHER_PREFIX = "model.", "distillation."  # of weights in a checkpoint
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")  # of timm, the best first
HEADS = ("fc", "head", "head_dist", "classifier", "last_linear", "norm", "fc_norm")
NEW_WITH_POOLING = "fc_norm."  # of transformers whose tokens are averaged
COUNTER = ".num_batches_tracked"  # of batch norm; old files lack it


class Meaning(NamedTuple):
    """Labels of the outputs of a model, and the recipe of its inputs."""

    labels: tuple[str, ...]
    recipe: Recipe


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GivenWeights:
    """Tensors of a file by name, and the metadata of a checkpoint of melbank."""

    path: str
    tensors: Mapping[str, Tensor]
    contents: dict[str, Any] | None


def read_weights(path: str) -> GivenWeights:
    """The weights of a file, none of whose code is run; raises ConfigError where it has none."""
    try:
        if path.endswith(".safetensors"):
            values = timm.models.load_state_dict(path, device="cpu")
        else:
            values = read_torch(path, legacy=True)
        contents = values.get(KEY) if isinstance(values, dict) else None
        if isinstance(contents, dict):
            own = model_weights(values.get("state_dict"), path)
            return GivenWeights(path=path, tensors=own, contents=contents)
        wrapper = next((name for name in WRAPPERS if name in values), "")
        tensors = tensors_of(values[wrapper] if wrapper else values, path)
    except StoreError as error:
        raise ConfigError(f"{error}: there are no weights to begin with") from error
    except (SafetensorError, *UNREADABLE) as error:
        raise ConfigError(
            f"{path} has no weights to begin with: {first_line(error)}; model.weights_file takes "
            "files of torch.save and .safetensors"
        ) from error
    return GivenWeights(path=path, tensors=timm.models.clean_state_dict(tensors), contents=None)


def model_weights(state: Any, path: str | Path) -> dict[str, Tensor]:
    """The weights of the classifier in a checkpoint of melbank, by their names in it.

    Those of a projection to a teacher, which predicts nothing, are left out.
    """
    tensors = tensors_of(state, path)
    return {
        name.removeprefix(MODEL_PREFIX): tensors[name]
        for name in tensors
        if not name.startswith(TEACHER_PREFIX)
    }


def start_backbones(backbones: list[nn.Module], config: ModelConfig) -> GivenWeights:
    """Loads the backbones of all views, in place; raises ConfigError where one does not fit."""
    path = config.weights_file
    weights = read_weights(path)
    for number, backbone in enumerate(backbones):
        try:
            if weights.contents is None:
                _load_timm(backbone, weights.tensors, config.channels)
            else:
                _load_own(backbone, weights.tensors, number)
        except (MelbankError, *UNREADABLE) as error:
            raise ConfigError(
                f"the weights in {path} do not fit model.backbone={config.backbone}: "
                f"{first_line(error)}; model.weights_file takes those of this backbone, from timm "
                "or of melbank"
            ) from error
    return weights


def start_heads(
    model: nn.Module, weights: GivenWeights, meaning: Meaning, *, heads: bool = True
) -> None:
    """Loads all of a checkpoint whose labels are those of the model; checks the recipe.

    Without `heads` it checks the recipe alone.
    """
    contents = weights.contents
    if contents is None:
        return
    try:
        labels, recipe = tuple(contents["labels"]), Recipe.from_dict(contents["recipe"])
    except (KeyError, TypeError, StoreError) as error:
        raise ConfigError(
            f"{weights.path} does not say what it has learned ({first_line(error)}): give another"
        ) from error
    check_recipe(weights.path, recipe, meaning.recipe)
    learned = {
        name: tensor for name, tensor in weights.tensors.items() if not name.startswith(COSINE_HEAD)
    }
    fits = labels == meaning.labels and not name_mismatch(model.state_dict(), learned)
    if heads and fits:
        model.load_state_dict(learned)


def _load_own(backbone: nn.Module, tensors: Mapping[str, Tensor], number: int) -> None:
    """Loads the view of this number, or the only one that there is."""
    several = any(name.startswith("views.1.") for name in tensors)
    prefix = f"views.{number if several else 0}.backbone."
    own = {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
    if mismatch := name_mismatch(backbone.state_dict(), own):
        raise ConfigError(mismatch)
    backbone.load_state_dict(own)


def _load_timm(backbone: Any, tensors: Mapping[str, Tensor], channels: int) -> None:
    """Loads as timm does, with its renaming and the sum of colours, but not in part."""
    if not tensors:
        raise ConfigError("it is empty")
    source = {"source": "", "state_dict": dict(tensors), "custom_load": False}
    rename = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    check = backbone.register_load_state_dict_pre_hook(_check_names)
    try:
        timm.models.load_pretrained(
            backbone,
            pretrained_cfg={**backbone.pretrained_cfg, **source},
            num_classes=0,
            in_chans=channels,
            filter_fn=rename,
        )
    finally:
        check.remove()


def _check_names(backbone: nn.Module, given: dict[str, Tensor], *_: Any) -> None:
    """Raises ConfigError unless a state dict has all that a backbone has, save for a head."""
    wanted = {
        name: tensor
        for name, tensor in backbone.state_dict().items()
        if name in given or not (name.startswith(NEW_WITH_POOLING) or name.endswith(COUNTER))
    }
    body = {name: given[name] for name in given if name in wanted or not _is_of_head(name)}
    if mismatch := name_mismatch(wanted, body):
        raise ConfigError(mismatch)


def _is_of_head(name: str) -> bool:
    return name.partition(".")[0] in HEADS
