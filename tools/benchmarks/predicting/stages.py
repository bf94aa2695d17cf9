"""Stages of a prediction alone, and the script that one would write in a notebook."""

from pathlib import Path

import librosa
import numpy as np
import torch

from storage.objects.client import DEFAULT
from storage.recipe import Recipe
from tools.benchmarks.building.librosa_baseline import librosa_db
from tools.benchmarks.harness.process import Result
from tools.benchmarks.predicting.run_way import BATCH
from training.inference.config import PredictConfig
from training.inference.members import Branch, read_branches
from training.inference.model_files import find_models
from training.inference.reading.audio_input import AudioInput
from training.inference.reading.inputs import list_inputs
from training.inference.reading.loading import Job
from training.inference.reading.messages import Chunk
from training.model.checkpoints import read_checkpoint
from training.model.predict import predict_batch


class Stages:
    """One model and one folder of recordings."""

    def __init__(self, model: str, source: str, workers: int | None) -> None:
        self._models = find_models([model], Path())
        self._model = model
        self._recordings = list_inputs([source]).recordings
        self._workers = workers

    def decode(self) -> Result:
        """Takes the chunks and drops them."""
        (branch,) = self._branches()
        config = PredictConfig(workers=self._workers)
        audio = AudioInput(self._recordings, branch.members, config, DEFAULT)
        jobs = [Job(number, one.path) for number, one in enumerate(self._recordings)]
        with audio.messages(jobs) as messages:
            chunks = (message for message in messages if isinstance(message, Chunk))
            return {"num_windows": sum(len(chunk.silent) for chunk in chunks)}

    def model(self) -> Result:
        """Predicts as many batches of random cells as the recordings have."""
        (branch,) = self._branches()
        recipe, count = branch.members[0].recipe, 0
        cells = np.random.default_rng(0).integers(0, 256, (BATCH, *recipe.slice_shape), np.uint8)
        for _ in range(-(-self._count_windows(recipe) // BATCH)):
            count += len(branch.members[0].probabilities(cells))
        return {"num_windows": count}

    def script(self) -> Result:
        """Loads each file, makes the spectrogram of each window, predicts batches of 32."""
        trained, count = read_checkpoint(self._model), 0
        recipe = trained.recipe
        for one in self._recordings:
            samples, _ = librosa.load(one.path, sr=recipe.sample_rate_hz)
            starts = range(0, len(samples), recipe.slice_samples)
            windows = [samples[start : start + recipe.slice_samples] for start in starts]
            for first in range(0, len(windows), BATCH):
                images = [self._image(window, recipe) for window in windows[first : first + BATCH]]
                slices = torch.from_numpy(np.stack(images))
                predict_batch(trained.model, slices, output="sigmoid", precision="32-true")
                count += len(images)
        return {"num_windows": count}

    @staticmethod
    def _image(samples: np.ndarray, recipe: Recipe) -> np.ndarray:
        db = librosa_db(np.resize(samples, recipe.slice_samples), recipe)
        return ((db + recipe.top_db) / recipe.top_db).astype(np.float32)

    def _branches(self) -> list[Branch]:
        return read_branches(self._models, torch.device("cpu"), "auto", torch.get_num_threads())[0]

    def _count_windows(self, recipe: Recipe) -> int:
        lengths = (librosa.get_duration(path=one.path) for one in self._recordings)
        return sum(max(1, round(length / recipe.slice_s)) for length in lengths)
