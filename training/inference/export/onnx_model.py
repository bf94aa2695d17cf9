"""A classifier in a file that melbank has exported, run by onnxruntime or OpenVINO.

    model = OnnxClassifier("model.onnx", threads=1)
    probabilities_BC = model.probabilities(cells_BMT)

The counterpart of a checkpoint for `predict`: torch is not needed.
"""

from pathlib import Path

import numpy as np
from scipy.special import expit, softmax

from datasets.chunks import Chunks
from storage.encoding import to_unit
from storage.errors import ConfigError, StoreError
from storage.recipe import Recipe
from training.inference.export.metadata import (
    EMBEDDING,
    FRAMES,
    LOGITS,
    PROBABILITIES,
    SLICES,
    WAVEFORM,
    ExportMetadata,
    has_metadata,
)
from training.inference.export.model_file import open_model_file
from training.inference.export.session import FLOAT, Session


class OnnxModel:
    """Any file of ours: its session and metadata, which agree with each other.

    Raises StoreError where the file is damaged, and ConfigError where melbank did not export it.
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        self.session = open_model_file(path, threads)
        self.metadata = read_metadata(self.session)
        self.path = str(path)

    def run(self, output: str, inputs: np.ndarray) -> np.ndarray:
        """One output, float32 [B, ...], of slices [B, M, T] or waveforms [B, S], float32."""
        name = self.metadata.input
        return self.session.run([output], {name: np.ascontiguousarray(inputs, np.float32)})[0]


class OnnxClassifier:
    """Slices -> probabilities and embeddings.

    `labels`, `recipe` and `output` as in a checkpoint. `names`: of the classes, by label. `post`:
    the steps of post-processing in its metadata.
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        self._model = OnnxModel(path, threads)
        metadata = self._model.metadata
        if metadata.input != SLICES:
            raise ConfigError(
                f"{path} takes waveforms, and mel slices are given: export the model again with "
                "export.mel=false"
            )
        self.path = self._model.path
        self.labels = metadata.labels.names
        self.recipe: Recipe = metadata.recipe
        self.chunks = Chunks()
        self.waveform = None
        self.output = metadata.output
        self.names = metadata.names
        self.post = metadata.post

    def probabilities(self, cells: np.ndarray) -> np.ndarray:
        """float32 [B, C] of cells [B, M, T] of any encoding."""
        return self._model.run(PROBABILITIES, to_unit(cells))

    @property
    def has_frames(self) -> bool:
        """True for models with a SED head."""
        return any(port.name == FRAMES for port in self._model.session.outputs)

    def frames(self, cells: np.ndarray) -> np.ndarray:
        """Probabilities, float32 [B, F, C], of the frames of cells [B, M, T]."""
        logits = self._model.run(FRAMES, to_unit(cells))
        found = expit(logits) if self.output == "sigmoid" else softmax(logits, axis=-1)
        return np.asarray(found, np.float32)

    def __call__(self, cells: np.ndarray) -> np.ndarray:
        """The probabilities."""
        return self.probabilities(cells)

    def embeddings(self, cells: np.ndarray) -> np.ndarray:
        """float32 [B, E] of cells [B, M, T] of any encoding."""
        return self._model.run(EMBEDDING, to_unit(cells))


def read_metadata(session: Session) -> ExportMetadata:
    """Checks the metadata of a file against its inputs and outputs, and returns it."""
    if not has_metadata(session.entries):
        raise ConfigError(
            f"{session.path} is not exported by melbank: it names no labels and no recipe, so its "
            "numbers have no meaning here; python -m tools.export writes such files"
        )
    try:
        metadata = ExportMetadata.parse(session.entries)
        _check_ports(session, metadata)
    except ValueError as error:
        raise StoreError(f"{session.path} is damaged ({error}): export the model again") from error
    return metadata


def _check_ports(session: Session, metadata: ExportMetadata) -> None:
    recipe, classes = metadata.recipe, len(metadata.labels)
    shape = (recipe.slice_samples,) if metadata.input == WAVEFORM else recipe.slice_shape
    wanted = {
        metadata.input: (session.input(metadata.input), shape),
        PROBABILITIES: (session.output(PROBABILITIES), (classes,)),
        LOGITS: (session.output(LOGITS), (classes,)),
        EMBEDDING: (session.output(EMBEDDING), None),
    }
    for name, (port, sizes) in wanted.items():
        rank = 2 if sizes is None else 1 + len(sizes)
        fits = sizes is None or port.shape[1:] in (sizes, (None,) * len(sizes))
        if port.kind != FLOAT or len(port.shape) != rank or not fits:
            raise ValueError(
                f"its {name} is {port.kind} {port.shape}, and the recipe makes {sizes}"
            )
    for port in session.outputs:
        frames = port.name == FRAMES
        if frames and (len(port.shape) != 3 or port.shape[2] not in (classes, None)):
            raise ValueError(f"its {FRAMES} is {port.shape}, and there are {classes} classes")
    if len(session.inputs) != 1:
        raise ValueError(f"it has {len(session.inputs)} inputs")
