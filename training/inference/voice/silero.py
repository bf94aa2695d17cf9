"""Silero VAD as a detector of human voice (Silero Team 2024, MIT): 32-ms frames at 16 kHz.

The weights are in the wheel of silero-vad, the extra `voice`, whose code is not used: they are run
by onnxruntime. Each slice begins with an empty state, so it does not depend on its neighbours.

Takes about 10 ms of one core for a slice of 5 s.

Shapes: B slices, S samples, F frames.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from storage.checksums import digest_file
from storage.errors import ConfigError
from training.inference.embeddings.record import ModelRecord
from training.inference.embeddings.slice_audio import WaveformInput
from training.inference.export.session import open_session

NAME = "Silero VAD"
WEIGHTS = Path("data") / "silero_vad.onnx"
LICENCE = "MIT"
RATE_HZ, FRAME_SAMPLES, CONTEXT_SAMPLES = 16_000, 512, 64
STATE = (2, 128)  # of one slice: layers of the LSTM, cells
VOICED = 0.5  # probability from which on a frame counts as voice, as silero-vad has it
INSTALL = "install the extra `voice`, as with `uv sync --extra voice`"


class SileroVoice:
    """The share of frames with voice, as an embedding of one number."""

    is_alone = False

    def __init__(self, slice_s: float, threads: int = 1, path: Path | None = None) -> None:
        path = path or wheel_file()
        self._session = open_session(path, threads)
        for name in ("input", "state", "sr"):
            self._session.input(name)
        self.takes = WaveformInput(sample_rate_hz=RATE_HZ, window_samples=round(slice_s * RATE_HZ))
        self.record = ModelRecord(
            name=NAME,
            sha256=digest_file(path),
            licence=LICENCE,
            takes=f"waveforms at {RATE_HZ} Hz",
            output=f"share of frames of {FRAME_SAMPLES} samples with voice",
        )

    def embed(self, inputs: np.ndarray) -> np.ndarray:
        """Returns the share of voice, float32 [B, 1], of waveforms [B, S]."""
        voiced = self.probabilities(inputs) >= VOICED
        return np.asarray(voiced.mean(axis=1, dtype=np.float32)[:, None])

    def probabilities(self, samples_BS: np.ndarray) -> np.ndarray:
        """Returns the probability of voice in each frame, float32 [B, F]; zeros fill the last."""
        num_slices, num_samples = samples_BS.shape
        num_frames = -(-num_samples // FRAME_SAMPLES)
        padded = np.zeros((num_slices, CONTEXT_SAMPLES + num_frames * FRAME_SAMPLES), np.float32)
        padded[:, CONTEXT_SAMPLES : CONTEXT_SAMPLES + num_samples] = samples_BS
        state = np.zeros((STATE[0], num_slices, STATE[1]), np.float32)
        found = np.empty((num_slices, num_frames), np.float32)
        for frame in range(num_frames):
            begin = frame * FRAME_SAMPLES  # each frame follows the end of the one before it
            window = padded[:, begin : begin + CONTEXT_SAMPLES + FRAME_SAMPLES]
            given = {"input": window, "state": state, "sr": np.array(RATE_HZ, np.int64)}
            output, state = self._session.run(["output", "stateN"], given)
            found[:, frame] = output[:, 0]
        return found


def wheel_file() -> Path:
    """The weights in silero-vad's wheel; ConfigError, naming the extra, where they are absent."""
    spec = find_spec("silero_vad")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / WEIGHTS).is_file():
            return path
    raise ConfigError(f"human voice is found by Silero VAD, of the package silero-vad: {INSTALL}")
