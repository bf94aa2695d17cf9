"""Windows of a waveform model in the slices of a recording.

A slice longer than the model's window is covered by as few windows as can, evenly spaced; in a
shorter one the window is centred. Zeros stand for what is after the end of the recording; windows
without any sample are left out. Memory does not grow with the length of the recording.

Shapes: k windows of a slice, S samples of a window.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from storage.audio.decode import Decoder
from storage.audio.slicing import SampleStream, fill_up
from storage.errors import AudioError, StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveformInput:
    """Input of a waveform model: `window_samples` at `sample_rate_hz`, full scale 1."""

    sample_rate_hz: int
    window_samples: int

    def window_starts(self, start_s: float, slice_s: float) -> list[int]:
        """Positions of the windows of a slice that starts at `start_s`, samples, rising."""
        start = round(start_s * self.sample_rate_hz)
        spare = round(slice_s * self.sample_rate_hz) - self.window_samples
        if spare <= 0:
            return [max(0, start + spare // 2)]
        last = ceil(spare / self.window_samples)
        return [start + round(place * spare / last) for place in range(last + 1)]


def read_windows(
    path: Path, channel: str, takes: WaveformInput, starts_s: Sequence[float], slice_s: float
) -> Iterator[np.ndarray]:
    """Yields the windows of each slice, float32 [k, S], k at least 1; `starts_s` must rise.

    Raises StoreError where the file is not readable, or shorter than the slices.
    """
    blocks = iter(Decoder(path, takes.sample_rate_hz, channel))
    with closing(blocks):  # type: ignore[type-var]  # a generator
        stream = SampleStream(blocks)
        try:
            for start_s in starts_s:
                stream.drop(takes.window_starts(start_s, slice_s)[0])
                yield slice_windows(stream, takes, start_s, slice_s)
        except AudioError as error:
            raise StoreError(f"{path}: {error}") from error
        except TooShortError as error:
            raise StoreError(
                f"{path} ends before the slice at {start_s:g} s: it is not the recording that is "
                "in the store"
            ) from error


class TooShortError(ValueError):
    """A slice has no sample."""


def slice_windows(
    stream: SampleStream, takes: WaveformInput, start_s: float, slice_s: float
) -> np.ndarray:
    """The windows of a slice, float32 [k, S]; raises TooShortError where there is no sample."""
    starts, size = takes.window_starts(start_s, slice_s), takes.window_samples
    stream.has(starts[-1] + size)
    starts = [start for start in starts if start < stream.total]
    if not starts:
        raise TooShortError
    return np.stack([fill_up(stream.read(start, size), size, "zeros") for start in starts])


def slice_means(embeddings_PE: np.ndarray, counts_N: Sequence[int]) -> np.ndarray:
    """The mean embedding of the windows of each slice, float32 [N, E].

    `counts_N`: the number of windows of each; the mean of none is 0.
    """
    parts = np.split(embeddings_PE, np.cumsum(counts_N)[:-1])
    means = [part.mean(axis=0) if len(part) else 0 * embeddings_PE[0] for part in parts]
    return np.stack(means)
