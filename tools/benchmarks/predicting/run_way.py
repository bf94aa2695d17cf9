"""One way of predicting a folder of recordings, or one stage of it alone.

python -m tools.benchmarks.predicting.run_way RESULT STARTED WAY CHECKPOINT SOURCE WORKERS

`whole`: as tools.predict does. `decode`: decoding and mel in the workers, without a model. `model`:
the model on ready cells. `script`: librosa window by window and batches of 32, as in a notebook.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch

from storage.objects.client import DEFAULT
from storage.recipe import Recipe
from tools.benchmarks.building.librosa_baseline import librosa_db, warm_up
from tools.benchmarks.harness.process import measure
from training.inference.config import PredictConfig
from training.inference.members import Branch, read_branches
from training.inference.model_files import find_models
from training.inference.predictor import predict_recordings
from training.inference.reading.audio_input import AudioInput
from training.inference.reading.inputs import list_inputs
from training.inference.reading.loading import Job
from training.inference.reading.messages import Chunk
from training.model.checkpoints import read_checkpoint
from training.model.predict import predict_batch

BATCH = 32
Numbers = dict[str, Any]


class Ways:
    """The ways of predicting, with one model and one folder of recordings."""

    def __init__(self, checkpoint: str, source: str, workers: int) -> None:
        self._models = find_models([checkpoint], Path())
        self._checkpoint = checkpoint
        self._source = source
        self._workers = workers
        warm_up()

    def whole(self) -> Numbers:
        """Predicts into a temporary folder."""
        with tempfile.TemporaryDirectory() as out:
            config = PredictConfig(
                from_=[self._checkpoint],
                input=[self._source],
                out=f"{out}/new",
                batch_size=BATCH,
                workers=self._workers,
            )
            summary = predict_recordings(config, self._models, list_inputs(config.input))
        return {"num_windows": summary.num_windows}

    def decode(self) -> Numbers:
        """Takes the chunks and drops them."""
        recordings = list_inputs([self._source]).recordings
        (branch,) = self._branches()
        audio = AudioInput(
            recordings, branch.members, PredictConfig(workers=self._workers), DEFAULT
        )
        jobs = [Job(number, one.path) for number, one in enumerate(recordings)]
        with audio.messages(jobs) as messages:
            chunks = (message for message in messages if isinstance(message, Chunk))
            return {"num_windows": sum(len(chunk.silent) for chunk in chunks)}

    def model(self) -> Numbers:
        """Predicts as many batches of random cells as the recordings have."""
        (branch,) = self._branches()
        recipe, count = branch.members[0].recipe, 0
        cells = np.random.default_rng(0).integers(0, 256, (BATCH, *recipe.slice_shape), np.uint8)
        for _ in range(-(-self._count_windows(recipe) // BATCH)):
            count += len(branch.members[0].probabilities(cells))
        return {"num_windows": count}

    def script(self) -> Numbers:
        """Loads each file, makes the spectrogram of each window, predicts batches of 32."""
        trained, count = read_checkpoint(self._checkpoint), 0
        recipe = trained.recipe
        for one in list_inputs([self._source]).recordings:
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
        lengths = (
            librosa.get_duration(path=one.path) for one in list_inputs([self._source]).recordings
        )
        return sum(max(1, round(length / recipe.slice_s)) for length in lengths)


if __name__ == "__main__":
    way, checkpoint_file, source_folder, num_workers = sys.argv[3:]
    ways = Ways(checkpoint_file, source_folder, int(num_workers))
    measure(sys.argv[1:], getattr(ways, way))
