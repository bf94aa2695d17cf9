"""Checkpoints to resume a fold from: which there are, and what a training cannot go on from.

    checkpoint = choose_checkpoint(weights / ".fold_0", module, trainer, name="fold 0")

Each is held against the training before Lightning takes it, so that a file that is cut off, foreign
or of another model ends in one sentence, and the one before it is taken.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from storage.errors import ConfigError, MelbankError, StoreError
from storage.recipe import Recipe
from training.config import BEST
from training.model.pretrained import KEY
from training.model.recipe_check import check_recipe
from training.model.torch_files import (
    UNREADABLE,
    first_line,
    name_mismatch,
    read_torch,
    shape_of,
    tensors_of,
)
from training.module import SliceModule
from training.runtime.ranks import first_rank_logger
from training.trainer import EPOCH_END, RESUME

PARTS: dict[str, type] = {
    "epoch": int,
    "global_step": int,
    "pytorch-lightning_version": str,
    "state_dict": dict,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "FoldDataModule": dict,
    KEY: dict,
}
GROUP_KEYS = {"lr", "betas", "eps", "weight_decay"}
MOMENTS = {"exp_avg", "exp_avg_sq"}
logger = first_rank_logger(__name__)


class Begun(Callback):
    """Remembers that all of a checkpoint was taken in and training has begun."""

    begun = False

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Takes note."""
        self.begun = True


def choose_checkpoint(
    folder: Path, module: SliceModule, trainer: pl.Trainer, *, name: str
) -> Path | None:
    """The checkpoint of the most steps that a training can go on from; None where there is none.

    Logs which it is, and those that are passed over, after the `name` of the fold. Raises
    StoreError where there are only such, and ConfigError where they belong to other data.
    """
    usable, refused = [], []
    for path in sorted(folder.glob(f"{RESUME}_*.ckpt")):
        try:
            state = _read_state(path, module)
            _check_callbacks(path, state["callbacks"], module, trainer)
            steps = state["global_step"]
            usable.append((steps, path.stem == EPOCH_END, path))  # after its epoch's last step
        except StoreError as error:
            refused.append(str(error))
    if not usable and refused:
        raise StoreError(
            f"{'; '.join(refused)}: put back a copy of it, or remove {folder} to train this fold "
            "from its beginning, and resume again"
        )
    for sentence in refused:
        logger.info(f"{name}: {sentence}: it is passed over for the checkpoint before it")
    if not usable:
        return None
    steps, _, path = max(usable)
    logger.info(f"{name}: continues after {path}, optimizer step {steps}")
    return path


@contextmanager
def restoring(path: Path | None, training: Begun) -> Iterator[None]:
    """Says in one sentence that training could not begin from what a checkpoint holds."""
    try:
        yield
    except MelbankError:
        raise
    except UNREADABLE as error:
        if path is None or training.begun:
            raise
        raise StoreError(
            f"{path} cannot be resumed from ({type(error).__name__}: {first_line(error)}): remove "
            "it to go on from the checkpoint before it, or put back a copy, and resume again"
        ) from error


def _read_state(path: Path, module: SliceModule) -> dict[str, Any]:
    """The contents of a checkpoint; raises StoreError where a module cannot go on from it."""
    state = read_torch(path)
    if not isinstance(state, dict):
        raise StoreError(f"{path} is no checkpoint of a training")
    if "state_dict" in state and "optimizer_states" not in state:
        raise StoreError(f"{path} has weights alone, without the state of a training")
    for name, kind in PARTS.items():
        if not isinstance(state.get(name), kind):
            raise StoreError(f"{path} is no complete checkpoint: it lacks {name}")
    _check_meaning(path, state[KEY], module.contents)
    if mismatch := name_mismatch(module.state_dict(), tensors_of(state["state_dict"], path)):
        raise StoreError(f"{path} is of another model: {mismatch}")
    try:
        mismatch = _optimizer_mismatch(state["optimizer_states"], module)
    except UNREADABLE as error:
        raise StoreError(f"{path} has no optimizer's state: {first_line(error)}") from error
    if mismatch:
        raise StoreError(f"{path} has the optimizer of another model: {mismatch}")
    return state


def _check_meaning(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raises ConfigError where classes or slices are other ones than when it was written."""
    try:
        check_recipe(path, Recipe.from_dict(there["recipe"]), Recipe.from_dict(here["recipe"]))
        then, now = set(there["labels"]), set(here["labels"])
    except (KeyError, TypeError) as error:
        raise StoreError(f"{path} does not say what it has learned: {first_line(error)}") from error
    if then != now:
        gone, new = (", ".join(map(str, names)) or "none" for names in (then - now, now - then))
        raise ConfigError(
            f"{path} has {len(then)} classes, the source {len(now)} (gone: {gone}; new: {new}): "
            "resume with the recordings as they were, or start a new training"
        )


def _optimizer_mismatch(states: list[Any], module: SliceModule) -> str:
    """Says in what an optimizer's state does not fit; empty where it does."""
    if len(states) != 1:
        return f"{len(states)} optimizers instead of 1"
    groups = module.optimizer_alone().param_groups
    given, values = states[0]["param_groups"], states[0]["state"]
    if len(given) != len(groups):
        return f"{len(given)} groups of parameters instead of {len(groups)}"
    for has, wanted in zip(given, groups, strict=True):
        if len(has["params"]) != len(wanted["params"]):
            return f"{len(has['params'])} parameters instead of {len(wanted['params'])} in a group"
        if lacking := GROUP_KEYS - set(has):
            return f"a group without {', '.join(sorted(lacking))}"
    parameters = [parameter for group in groups for parameter in group["params"]]
    for number, moments in values.items():
        if lacking := MOMENTS - set(moments):
            return f"parameter {number} has no {', '.join(sorted(lacking))}"
        if any(moments[name].shape != parameters[number].shape for name in MOMENTS):
            shape = shape_of(parameters[number])
            return f"the moments of parameter {number} are not {shape} as it is"
    return ""


def _check_callbacks(
    path: Path, states: Mapping[str, Any], module: SliceModule, trainer: pl.Trainer
) -> None:
    """Raises StoreError unless all have a state, and the best weights so far are there."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it
    wanted = [callback.state_key for callback in callbacks if callback.state_dict()]
    if lacking := [key for key in wanted if not isinstance(states.get(key), dict)]:
        raise StoreError(f"{path} is no complete checkpoint: it lacks the state of {lacking[0]}")
    best = path.with_name(f"{BEST}.ckpt")
    files = (str(state.get("best_model_path")) for state in states.values() if state)
    if any(Path(file).name == best.name for file in files):
        contents = read_torch(best)
        state = contents.get("state_dict") if isinstance(contents, dict) else None
        if mismatch := name_mismatch(module.state_dict(), tensors_of(state, best)):
            raise StoreError(f"{best} is of another model: {mismatch}")
