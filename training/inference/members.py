"""Models of a run: entries of `predict.from` -> branches, each of one or several members.

    models = find_models(["exp_003", "exp_007/fold_1", "model.onnx"], root=Path("."))
    branches, precision = read_branches(models, device, "auto", threads=2)

What a kind of model needs is imported with the first of that kind: timm takes longer than a minute
of audio does. Shapes: B slices, M mel bands, T frames, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from datasets.chunks import Chunks
from storage.errors import ConfigError, StoreError
from storage.recipe import Recipe
from training.inference.config import REFUSE
from training.inference.embeddings.config import EmbedderConfig
from training.inference.embeddings.slice_audio import WaveformInput
from training.inference.model_files import CHECKPOINT, PROBE, ModelFiles
from training.runtime.auto import Choice, choose_precision

MAX_SHOWN = 3


class Member(Protocol):
    """Interface of one model."""

    path: str
    labels: tuple[str, ...]
    recipe: Recipe
    chunks: Chunks
    post: list[Any]  # steps of post-processing that it brings along

    @property
    def waveform(self) -> WaveformInput | None:
        """Windows of a recording that it takes instead of cells; None for cells."""

    @property
    def names(self) -> dict[str, dict[str, str]]:
        """Names of classes, by label and column of a taxonomy."""

    def probabilities(self, cells: np.ndarray) -> np.ndarray:
        """Probabilities, float32 [B, C], of cells [B, M, T] as a store of its recipe has them.

        Where `chunks` are of several slices, these are joined: float32 in [0, 1]. With `waveform`,
        of the windows of slices, float32 [B, k, S + 1], whose last number is 1, or 0 for none.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One entry of `predict.from`: its probabilities are the means of its members'."""

    name: str
    members: tuple[Member, ...]


def read_branches(
    models: Sequence[ModelFiles],
    device: torch.device,
    precision: str,
    threads: int,
    embedder: EmbedderConfig | None = None,
) -> tuple[list[Branch], Choice]:
    """Loads all models onto a device; also the precision that they compute in.

    `embedder`: for probes on embeddings of an ONNX file. Raises ConfigError where a file is no
    model.
    """
    files = [file for one in models for file in one.files]
    members, chosen = _read_checkpoints(
        [file for file in files if file.suffix == CHECKPOINT], device, precision
    )
    probes = [file for file in files if file.suffix == PROBE]
    members |= _open_probes(probes, embedder or EmbedderConfig(), threads)
    members |= {file: _open_file(file, threads) for file in files if file not in members}
    branches = [
        Branch(name=one.name, members=tuple(members[file] for file in one.files)) for one in models
    ]
    return branches, chosen


def _read_checkpoints(
    files: Sequence[Path], device: torch.device, precision: str
) -> tuple[dict[Path, Member], Choice]:
    kind = "gpu" if device.type == "cuda" else "cpu"
    if not files:
        return {}, Choice("32-true", "ONNX files and probes compute in 32 bits")
    from training.inference.checkpoint_member import CheckpointMember, narrowest, read_trained

    trained = {file: read_trained(file) for file in files}
    chosen = choose_precision(precision, kind, min(map(narrowest, trained.values())))
    members = {file: CheckpointMember(one, device, chosen.value) for file, one in trained.items()}
    return {**members}, chosen


def _open_probes(
    files: Sequence[Path], embedder: EmbedderConfig, threads: int
) -> dict[Path, Member]:
    """Probes, each after the model of its embeddings."""
    if not files:
        return {}
    from training.inference.embeddings.probe_classifier import open_probes

    try:
        return {**open_probes(files, embedder, threads)}
    except StoreError as error:
        raise ConfigError(f"predict.from: {error}") from error


def _open_file(path: Path, threads: int) -> Member:
    """A model in ONNX or of OpenVINO, run on the CPU."""
    try:
        from training.inference.export.onnx_model import OnnxClassifier

        return OnnxClassifier(path, threads)
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
