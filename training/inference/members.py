"""Models of a run: entries of `predict.from` -> branches, each of one or several members.

    models = find_models(["exp_003", "exp_007/fold_1", "model.onnx"], root=Path("."))
    branches, precision = read_branches(models, device, "auto", threads=2)

Shapes: B slices, M mel
bands, T frames, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from datasets.chunks import Chunks
from storage.errors import ConfigError, StoreError
from storage.recipe import Recipe
from training.inference.config import REFUSE
from training.inference.embeddings.probe_predictions import ProbeClassifier
from training.inference.export.onnx_model import OnnxClassifier
from training.inference.model_files import CHECKPOINT, PROBE, ModelFiles
from training.model.checkpoints import TrainedClassifier, read_checkpoint
from training.model.models import narrowest_image
from training.model.predict import predict_batch, predict_frames
from training.runtime.auto import Choice, choose_precision

MAX_SHOWN = 3


class Member(Protocol):
    """Interface of one model."""

    path: str
    labels: tuple[str, ...]
    recipe: Recipe
    chunks: Chunks

    @property
    def names(self) -> dict[str, dict[str, str]]:
        """Names of classes, by label and column of a taxonomy."""

    def probabilities(self, cells: np.ndarray) -> np.ndarray:
        """Probabilities, float32 [B, C], of cells [B, M, T] as a store of its recipe has them.

        Where `chunks` are of several slices, these are joined: float32 in [0, 1].
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One entry of `predict.from`: its probabilities are the means of its members'."""

    name: str
    members: tuple[Member, ...]


class CheckpointMember:
    """A checkpoint of a training, on the device that predicts."""

    def __init__(self, trained: TrainedClassifier, device: torch.device, precision: str) -> None:
        self.path = trained.path
        self.labels = trained.labels.names
        self.recipe = trained.recipe
        self.chunks = trained.chunks
        self.names = trained.names
        self._output = trained.model_config.output
        self._model = trained.model.to(device).eval()
        self._device = device
        self._precision = precision

    def probabilities(self, cells: np.ndarray) -> np.ndarray:
        slices = torch.from_numpy(cells).to(self._device)
        found, _ = predict_batch(
            self._model, slices, output=self._output, precision=self._precision
        )
        return np.asarray(found.cpu().numpy())

    @property
    def has_frames(self) -> bool:
        """True for a model with a SED head."""
        return self._model.has_frames

    def frames(self, cells: np.ndarray) -> np.ndarray:
        """Probabilities, float32 [B, F, C], of the frames of cells [B, M, T]."""
        slices = torch.from_numpy(cells).to(self._device)
        found = predict_frames(self._model, slices, output=self._output, precision=self._precision)
        return np.asarray(found.cpu().numpy())


def read_branches(
    models: Sequence[ModelFiles], device: torch.device, precision: str, threads: int
) -> tuple[list[Branch], Choice]:
    """Loads all models onto a device; also the precision that they compute in.

    Raises ConfigError where a file is no model.
    """
    trained: dict[Path, TrainedClassifier] = {}
    for path in (file for one in models for file in one.files if file.suffix == CHECKPOINT):
        try:
            trained[path] = read_checkpoint(path)
        except StoreError as error:
            raise ConfigError(f"predict.from: {error}") from error
    frames = [narrowest_image(one.model_config, one.sample_shape) for one in trained.values()]
    kind = "gpu" if device.type == "cuda" else "cpu"
    chosen = choose_precision(precision, kind, min(frames, default=1))
    branches = []
    for one in models:
        members: list[Member] = [
            CheckpointMember(trained[file], device, chosen.value)
            if file in trained
            else _open_file(file, threads)
            for file in one.files
        ]
        branches.append(Branch(name=one.name, members=tuple(members)))
    return branches, chosen


def _open_file(path: Path, threads: int) -> Member:
    """A model in ONNX, run by onnxruntime on the CPU, or a probe after its checkpoint."""
    try:
        return ProbeClassifier(path) if path.suffix == PROBE else OnnxClassifier(path, threads)
    except StoreError as error:
        raise ConfigError(f"predict.from: {error}") from error


def join_labels(branches: Sequence[Branch], rule: str) -> tuple[str, ...]:
    """The classes of all models, in the order of the first; ConfigError where `rule` refuses.

    With a union, classes that only later models have follow, in their order.
    """
    members = [member for branch in branches for member in branch.members]
    first = members[0]
    for other in members[1:]:
        if rule == REFUSE and other.labels != first.labels:
            raise ConfigError(
                f"{first.path} and {other.path} have other label lists "
                f"({_difference(first.labels, other.labels)}): give models of one list, or set "
                "predict.labels=union, where each model is silent on classes that it lacks"
            )
    return tuple(dict.fromkeys(label for member in members for label in member.labels))


def _difference(first: Sequence[str], other: Sequence[str]) -> str:
    """The first differences of two label lists, in words."""
    lacking = [label for label in first if label not in set(other)]
    more = [label for label in other if label not in set(first)]
    if not lacking and not more:
        at = next(place for place, label in enumerate(first) if label != other[place])
        return f"the same classes in another order: class {at} is {first[at]}, and {other[at]}"
    parts = [f"{len(first)} and {len(other)} classes"]
    for words, labels in (("only the first has", lacking), ("only the second has", more)):
        if labels:
            dots = ", ..." if len(labels) > MAX_SHOWN else ""
            parts.append(f"{words} {', '.join(labels[:MAX_SHOWN])}{dots}")
    return "; ".join(parts)
