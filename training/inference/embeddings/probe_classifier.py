"""Probes after the models of their embeddings, as models of a prediction.

    members = open_probes([Path("weights/exp_012/fold_0.safetensors")], EmbedderConfig(), threads=1)
    members[path].probabilities(cells)

The embeddings are computed once for all probes on one model: five folds of BirdNET cost one.

Shapes: B slices, k windows of a slice, S samples of a window, M mel bands, T frames, C classes, E
numbers of an embedding.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets.chunks import Chunks
from storage.checksums import digest_file
from storage.errors import ConfigError
from storage.recipe import Recipe
from training.inference.embeddings.birdnet import NAME, BirdNetEmbedder
from training.inference.embeddings.config import EmbedderConfig
from training.inference.embeddings.embedders import CheckpointEmbedder, Embedder, OnnxEmbedder
from training.inference.embeddings.linear_probe import LinearProbe, ProbeOrigin, read_probe
from training.inference.embeddings.slice_audio import slice_means
from training.inference.embeddings.spectral import SPECTRAL, SpectralEmbedder
from training.inference.model_files import CHECKPOINT, EXPORTS
from training.model.checkpoints import read_checkpoint


class SliceEmbedder:
    """The embeddings of slices by any model; those of the batch that came last are kept."""

    def __init__(self, embedder: Embedder, names: dict[str, dict[str, str]] | None = None) -> None:
        self._embedder = embedder
        self.waveform = embedder.takes
        self.record = embedder.record
        self.names = names or {}
        self._cells = np.empty(0)
        self._found = np.empty(0)

    def embed(self, cells: np.ndarray) -> np.ndarray:
        """Embeddings, float32 [B, E], of cells [B, M, T], or of windows [B, k, S + 1].

        The last number of a window is 1, or 0 where there is none.
        """
        if not np.array_equal(cells, self._cells):
            takes_cells = self.waveform is None
            self._found = self._embedder.embed(cells) if takes_cells else self._means(cells)
            self._cells = cells.copy()
        return self._found

    def _means(self, windows: np.ndarray) -> np.ndarray:
        """The mean embedding of the windows of each slice, as tools.embed has it."""
        present = windows[..., -1] > 0
        if self._embedder.is_alone:
            found = self._embedder.embed(windows[present][:, :-1])
        else:  # always as many, for the numbers of a window not to depend on its company
            flat = windows.reshape(-1, windows.shape[-1])
            found = self._embedder.embed(np.ascontiguousarray(flat[:, :-1]))[present.ravel()]
        return slice_means(found, present.sum(axis=1).tolist())


class ProbeClassifier:
    """A probe after the model that makes its embeddings, as one model of slices or recordings.

    `labels`, `recipe` and `output` as in a checkpoint. `waveform`: what it takes of a recording
    instead of cells.
    """

    def __init__(
        self, path: Path, probe: LinearProbe, recipe: Recipe, embedder: SliceEmbedder
    ) -> None:
        self._probe = probe
        self._embedder = embedder
        self.path = str(path)
        self.labels = probe.labels.names
        self.recipe = recipe
        self.waveform = embedder.waveform
        self.chunks = Chunks()
        self.output = "softmax"
        self.names = embedder.names
        self.post: list[Any] = []

    def probabilities(self, cells: np.ndarray) -> np.ndarray:
        """float32 [B, C] of cells [B, M, T] of any encoding, or of windows [B, k, S + 1]."""
        return self._probe.probabilities(self._embedder.embed(cells))

    def __call__(self, cells: np.ndarray) -> np.ndarray:
        """The probabilities."""
        return self.probabilities(cells)


def open_probes(
    files: Sequence[Path], config: EmbedderConfig, threads: int
) -> dict[Path, ProbeClassifier]:
    """Reads probes and the models of their embeddings; each of these once.

    `config` is for embeddings of an ONNX file that is elsewhere or has several ports. Raises
    ConfigError where a model is not there, or is another one.
    """
    opened: dict[tuple[str, str], tuple[SliceEmbedder, Recipe]] = {}
    members = {}
    for file in files:
        probe, origin = read_probe(file)
        key = (repr(origin.model), repr(origin.recipe))
        if key not in opened:
            opened[key] = _open_model(file, origin, config, threads)
        embedder, recipe = opened[key]
        members[file] = ProbeClassifier(file, probe, recipe, embedder)
    return members


def _open_model(
    path: Path, origin: ProbeOrigin, config: EmbedderConfig, threads: int
) -> tuple[SliceEmbedder, Recipe]:
    """The model of a probe's embeddings, and the recipe of the slices that they are of."""
    name = origin.model.name
    if name.endswith(CHECKPOINT):
        trained = read_checkpoint(_model_file(path, origin, ""))
        embedder = CheckpointEmbedder(trained, trained.recipe)
        return SliceEmbedder(embedder, trained.names), trained.recipe
    if origin.recipe is None:
        raise ConfigError(
            f"{path} does not say of which slices its embeddings are, as it was fitted by an "
            "earlier version: fit it again by tools.probe, which takes seconds"
        )
    found: Embedder
    if name == NAME:
        found = BirdNetEmbedder(threads, key=str(path))
    elif name == SPECTRAL:
        found = SpectralEmbedder()
    elif name.endswith(EXPORTS):
        given = replace(config, output=config.output or origin.model.output)
        file = _model_file(path, origin, config.model)
        found = OnnxEmbedder(file, given, origin.recipe, threads)
    else:
        raise ConfigError(f"{path} takes embeddings of {name}, which is no model known here")
    if not found.record.is_of_same_model(origin.model):
        raise ConfigError(
            f"{path} takes embeddings of {_described(origin)}; here they are made of "
            f"{found.record.takes}, {found.record.output}: give the embed.* keys of that call"
        )
    return SliceEmbedder(found, origin.names), origin.recipe


def _model_file(path: Path, origin: ProbeOrigin, given: str) -> Path:
    """The file of a model: the one that is given, or in the weights/ that the probe is in."""
    model = origin.model
    file = Path(given) if given else path.parent.parent / model.name
    if not file.is_file() or digest_file(file) != model.sha256:
        way_out = (
            "give that file as embed.model="
            if model.name.endswith(EXPORTS)
            else "both must be in one folder weights/"
        )
        raise ConfigError(
            f"{path} takes embeddings of {model.name}, and {file} is not that file: {way_out}"
        )
    return file


def _described(origin: ProbeOrigin) -> str:
    model = origin.model
    return f"{model.name} (sha256 {model.sha256[:12]}; {model.takes}, {model.output})"
