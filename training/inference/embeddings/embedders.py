"""Models that give embeddings, with one interface.

    embedder = open_embedder(config, root=".", recipe=store.recipe)
    embeddings_BE = embedder.embed(inputs)

Inputs are the cells of slices [B, M, T], or waveforms [B, S] where `takes` says which.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from storage.checksums import digest_file
from storage.encoding import to_unit
from storage.errors import ConfigError, StoreError
from storage.recipe import Recipe
from training.inference.checkpoint_member import read_trained
from training.inference.embeddings.birdnet import BirdNetEmbedder
from training.inference.embeddings.config import BIRDNET, EmbedConfig, EmbedderConfig
from training.inference.embeddings.record import ModelRecord
from training.inference.embeddings.slice_audio import WaveformInput
from training.inference.embeddings.spectral import SPECTRAL, SpectralEmbedder
from training.inference.export.metadata import EMBEDDING, SLICES, has_metadata
from training.inference.export.model_file import open_model_file
from training.inference.export.onnx_model import read_metadata
from training.inference.export.session import FLOAT, Port, Session
from training.inference.model_files import EXPORTS, find_models
from training.model.checkpoints import TrainedClassifier
from training.model.predict import predict_batch
from training.model.recipe_check import check_recipe
from training.runtime.auto import choose_threads

RATE_ENTRIES = ("sample_rate_hz", "sample_rate")  # of the metadata of foreign files
MAX_RATE_HZ = 10_000_000
MAX_WINDOW_SAMPLES = 2**28


class Embedder(Protocol):
    """Interface of a model that gives embeddings."""

    record: ModelRecord
    is_alone: bool  # each input is computed by itself, so that others may be left out

    @property
    def takes(self) -> WaveformInput | None:
        """The waveforms that it takes; None for cells of slices."""

    def embed(self, inputs: np.ndarray) -> np.ndarray:
        """Embeddings, float32 [B, E]."""


def open_embedder(
    config: EmbedConfig, root: Path, recipe: Recipe, key: str = "embed.model"
) -> Embedder:
    """The model of a config, for slices of a recipe; ConfigError where it cannot take them.

    `key`: by which the user has named the model, for messages.
    """
    if not config.model:
        raise ConfigError(
            "embed.model names no model: give exp_003/fold_0, a .ckpt, an .onnx, birdnet or "
            "spectral"
        )
    threads = int(choose_threads(config.threads).value)
    if config.model == BIRDNET:
        return BirdNetEmbedder(threads)
    if config.model == SPECTRAL:
        return SpectralEmbedder()
    meant = get_close_matches(config.model, (SPECTRAL, BIRDNET), 1)
    if meant and not Path(config.model).exists():  # birdnet.onnx may be a file
        raise ConfigError(f"{key}={config.model}: there is no such model; did you mean {meant[0]}?")
    models = find_models([config.model], root, key=key)
    if len(models[0].files) > 1:
        raise ConfigError(
            f"{key}={config.model} has {len(models[0].files)} models, and their embeddings "
            "differ in meaning: name one, such as exp_003/fold_0"
        )
    file = models[0].files[0]
    if file.suffix in EXPORTS:
        return OnnxEmbedder(file, config, recipe, threads)
    torch.set_num_threads(threads)
    return CheckpointEmbedder(read_trained(file, key), recipe)


class CheckpointEmbedder:
    """A checkpoint: the embeddings before its head, on a GPU where there is one."""

    takes = None
    is_alone = False

    def __init__(self, trained: TrainedClassifier, recipe: Recipe) -> None:
        trained.check_recipe(recipe)
        if trained.chunks.count > 1:
            raise ConfigError(
                f"{trained.path} has learned from chunks of {trained.chunks.count} slices "
                "(chunk.length_s), and embeddings are of single slices: take a model of those"
            )
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = trained.model.to(self._device)
        self._output = trained.model_config.output
        self.record = _record(Path(trained.path), SLICES, EMBEDDING)

    def embed(self, inputs: np.ndarray) -> np.ndarray:
        slices = torch.from_numpy(inputs).to(self._device)
        _, found = predict_batch(self._model, slices, output=self._output, precision="32-true")
        return np.asarray(found.cpu().numpy())


class OnnxEmbedder:
    """An output of an ONNX file, or of one of OpenVINO.

    Ours is known by its metadata, any other by its shapes and the config.
    """

    is_alone = False

    def __init__(self, path: Path, config: EmbedderConfig, recipe: Recipe, threads: int) -> None:
        self._session = open_model_file(path, threads)
        if has_metadata(self._session.entries):
            metadata = read_metadata(self._session)
            check_recipe(path, metadata.recipe, recipe)
            self._input, output = self._session.input(metadata.input), EMBEDDING
            is_slices = metadata.input == SLICES
            rate_hz: int | None = metadata.recipe.sample_rate_hz
        else:
            self._input = _only(self._session, "input", config.input)
            output = _only(self._session, "output", config.output).name
            is_slices = self._input.shape[1:] in (recipe.slice_shape, (1, *recipe.slice_shape))
            rate_hz = config.sample_rate_hz or _declared_rate(self._session)
        if self._input.kind != FLOAT:
            raise ConfigError(f"{path} takes {self._input.kind}; only tensor(float) is known here")
        self._output = output
        self.takes = None if is_slices else _waveform_input(self._input, path, config, rate_hz)
        self.record = _record(path, _describe_input(self._input, self.takes), output)

    def embed(self, inputs: np.ndarray) -> np.ndarray:
        values = to_unit(inputs) if self.takes is None else inputs
        if len(self._input.shape) == 4:
            values = values[:, None]
        size = self._input.shape[0] or len(values)  # some files take one input at a time
        if len(values) % size:
            raise ConfigError(f"{self._session.path} takes {size} inputs at once: give batch_size")
        parts = [self._run(values[start : start + size]) for start in range(0, len(values), size)]
        return np.concatenate(parts)

    def _run(self, values: np.ndarray) -> np.ndarray:
        inputs = {self._input.name: np.ascontiguousarray(values)}
        found = self._session.run([self._output], inputs)[0]
        if found.ndim < 2 or len(found) != len(values):
            raise ConfigError(
                f"the output {self._output} of {self._session.path} has the shape {found.shape}, "
                f"not one line for each of {len(values)} inputs: name another as embed.output"
            )
        return found.reshape(len(found), -1).astype(np.float32)


def _record(path: Path, takes: str, output: str) -> ModelRecord:
    name = f"{path.parent.name}/{path.name}"
    return ModelRecord(name=name, sha256=digest_file(path), licence="", takes=takes, output=output)


def _describe_input(port: Port, takes: WaveformInput | None) -> str:
    """Slices or waveforms, and their length where the file leaves it free."""
    if takes is None:
        return SLICES
    length = f" of {takes.window_samples} samples" if port.shape[1] is None else ""
    return f"waveforms{length} at {takes.sample_rate_hz} Hz"


def _only(session: Session, what: str, name: str) -> Port:
    """The port of a name, or the only one; of outputs one called `embedding` is preferred."""
    ports = session.inputs if what == "input" else session.outputs
    names = [port.name for port in ports]
    chosen = name or (EMBEDDING if EMBEDDING in names and what == "output" else "")
    if not chosen and len(ports) == 1:
        return ports[0]
    if not chosen:
        raise ConfigError(
            f"{session.path} has {len(ports)} {what}s: choose one as embed.{what} among "
            f"{', '.join(names[:10])}"
        )
    return session.input(chosen) if what == "input" else session.output(chosen)


def _declared_rate(session: Session) -> int | None:
    for name in RATE_ENTRIES:
        text = session.entries.get(name, "").strip()
        if text.isascii() and text.isdigit() and 0 < int(text[:9]) <= MAX_RATE_HZ:
            return int(text[:9])
    return None


def _waveform_input(
    port: Port, path: Path, config: EmbedderConfig, rate_hz: int | None
) -> WaveformInput:
    if len(port.shape) != 2:
        raise ConfigError(
            f"the input {port.name} of {path} has the shape {port.shape}, neither that of the "
            "store's slices nor one of waveforms"
        )
    if rate_hz is None:
        raise ConfigError(f"{path} does not say its sample rate: give embed.sample_rate_hz")
    samples = port.shape[1]
    if config.window_s is not None:
        wanted = round(config.window_s * rate_hz)
        if samples not in (None, wanted):
            raise ConfigError(
                f"embed.window_s={config.window_s:g} at {rate_hz} Hz is {wanted} samples, and "
                f"{path} takes {samples}"
            )
        samples = wanted
    if samples is None:
        raise ConfigError(f"{path} takes waveforms of any length: give embed.window_s")
    if not 0 < samples <= MAX_WINDOW_SAMPLES:
        raise StoreError(f"{path} takes waveforms of {samples} samples")
    return WaveformInput(sample_rate_hz=rate_hz, window_samples=samples)
