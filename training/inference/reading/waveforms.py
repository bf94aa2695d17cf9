"""Windows of a recording for models of waveforms, such as probes on BirdNET's embeddings.

Cut by the code of tools.embed, at the places where a model of slices of the same length sees its
slices. Shapes: j slices in a window of the run, k windows of a slice, S samples of each.
"""

import numpy as np

from storage.audio.slicing import SampleStream
from storage.recipe import Recipe
from training.inference.embeddings.slice_audio import TooShortError, WaveformInput, slice_windows
from training.inference.reading.places import slice_places


class WaveformMaker:
    """Cuts the windows of the slices of `recipe` that one model hears in a window of the run."""

    def __init__(self, takes: WaveformInput, recipe: Recipe, windows: Recipe) -> None:
        self._takes = takes
        self._recipe = recipe
        self._windows = windows
        self.rate_hz = takes.sample_rate_hz
        self._count = len(takes.window_starts(0.0, recipe.slice_s))

    def starts(self, window_start: int) -> list[int]:
        """Start positions, at this model's rate, of its slices in a window."""
        return [
            self._takes.window_starts(start_s, self._recipe.slice_s)[0]
            for start_s in self._slice_starts_s(window_start)
        ]

    def cells(self, stream: SampleStream, window_start: int) -> tuple[np.ndarray, bool]:
        """Windows, float32 [j, k, S + 1], whose last number is 1, or 0 for none; True for silence.

        Windows after the end of the recording are none, and count for no mean.
        """
        starts_s = self._slice_starts_s(window_start)
        size = self._takes.window_samples
        out = np.zeros((len(starts_s), self._count, size + 1), np.float32)
        for slice_no, start_s in enumerate(starts_s):
            found = self._windows_of(stream, start_s, starts_s[0])
            out[slice_no, : len(found), :size] = found
            out[slice_no, : len(found), size] = 1
        return out, not out[..., :size].any()

    def _windows_of(self, stream: SampleStream, start_s: float, first_s: float) -> np.ndarray:
        """The windows of a slice; where nothing is there, of the first one, which has sound."""
        slice_s = self._recipe.slice_s
        try:
            return slice_windows(stream, self._takes, start_s, slice_s)
        except TooShortError:
            first_s = min(first_s, (stream.total - 1) / self.rate_hz)
            return slice_windows(stream, self._takes, first_s, slice_s)

    def _slice_starts_s(self, window_start: int) -> list[float]:
        """Start times of the slices in a window, s, as a store has them."""
        rate_hz = self._recipe.sample_rate_hz
        places = slice_places(window_start, self._windows, rate_hz, self._recipe.slice_samples)
        return [place / rate_hz for place in places]
