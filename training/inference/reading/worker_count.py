"""Number of processes that decode, by the amount of audio; needs no torch.

A process pays when it decodes for longer than it takes to start: below a few minutes of audio,
recordings are read by the process of the models.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from storage.audio.decode import read_header
from storage.errors import AudioError
from storage.objects.urls import is_remote
from storage.processes import num_cores, prepare_workers
from training.inference.config import PredictConfig
from training.inference.reading.inputs import InputRecording, Inputs
from training.inference.reading.loading import WORKER_MODULE

SHORT_S = 300.0  # of audio, 0.4 s of decoding
MAX_FILES, MAX_BYTES = 50, 32 << 20  # files whose headers are read, and the size of each


def num_workers(config: PredictConfig, recordings: Sequence[InputRecording]) -> int:
    """`predict.workers`, or what suits: none for little audio, else one less than the cores."""
    if config.workers is not None:
        return config.workers
    return 0 if _are_short([one.path for one in recordings]) else max(1, num_cores() - 1)


def prepare_reading(config: PredictConfig, inputs: Inputs) -> None:
    """Lets the processes that decode import what they need, if there will be any."""
    if not inputs.store and num_workers(config, inputs.recordings):
        prepare_workers(WORKER_MODULE)


def declared_s(path: str) -> float:
    """The length that a file declares, s; 0 where it does not or cannot be read."""
    try:
        return read_header(Path(path)).duration_s
    except (AudioError, OSError):
        return 0.0


def _are_short(paths: Sequence[str]) -> bool:
    """True where recordings, all together, are known to be short."""
    if len(paths) > MAX_FILES or any(map(is_remote, paths)):
        return False
    left_s = SHORT_S
    for path in paths:
        if os.path.exists(path) and os.path.getsize(path) > MAX_BYTES:
            return False
        left_s -= declared_s(path)
        if left_s < 0:
            return False
    return True
