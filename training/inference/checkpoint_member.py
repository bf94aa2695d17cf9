"""A checkpoint as a model of a run.

    member = CheckpointMember(read_trained(Path("fold_0.ckpt")), device, "32-true")

Shapes: B slices, M mel bands, T frames, C classes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from storage.errors import ConfigError, StoreError
from training.model.checkpoints import TrainedClassifier, read_checkpoint
from training.model.models import narrowest_image
from training.model.predict import predict_batch, predict_frames


class CheckpointMember:
    """A checkpoint of a training, on the device that predicts."""

    def __init__(self, trained: TrainedClassifier, device: torch.device, precision: str) -> None:
        self.path = trained.path
        self.labels = trained.labels.names
        self.recipe = trained.recipe
        self.chunks = trained.chunks
        self.waveform = None
        self.names = trained.names
        self.post: list[Any] = []
        self._output = trained.model_config.output
        self._model = trained.model.to(device).eval()
        self._device = device
        self._precision = precision

    def probabilities(self, cells: np.ndarray) -> np.ndarray:
        """Probabilities, float32 [B, C], of cells [B, M, T] as a store of its recipe has them."""
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


def read_trained(path: Path, key: str = "predict.from") -> TrainedClassifier:
    """The classifier of a checkpoint; ConfigError, with `key`, where the file is none."""
    try:
        return read_checkpoint(path)
    except StoreError as error:
        raise ConfigError(f"{key}: {error}") from error


def narrowest(trained: TrainedClassifier) -> int:
    """Frames of the narrowest image that a backbone sees."""
    return narrowest_image(trained.model_config, trained.sample_shape)
