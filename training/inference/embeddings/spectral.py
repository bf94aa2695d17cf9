"""Spectral embedding of slices: quantiles, changes and rhythms of their bands; needs no model.

Three groups of numbers, computed from the cells in [0, 1], for each slice:

* quantiles 5, 25, 50, 75 and 95 % over time of up to 32 bands (means of neighbouring mel bands):
  the spectrum of background and calls;
* mean absolute change from frame to frame of these bands: steady or lively;
* modulation spectrum of up to 8 bands, log(1 + magnitude) in octaves of cycles per slice, with a
  Hann window: the rhythm of calls, whatever their position in the slice.

The numbers have different units: `training.inference.similarity` standardises them over a
collection, and divides each by the root of its group's size, so that the groups count alike.

Shapes: B slices, M mel bands, T frames, N bands, E numbers.
"""

import itertools

import numpy as np

from storage.checksums import digest_json
from storage.encoding import to_unit
from training.inference.embeddings.record import ModelRecord

SPECTRAL = "spectral"
VERSION = 1
BANDS, RHYTHM_BANDS = 32, 8
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
OCTAVES = 7  # 1 to 128 cycles in a slice


def group_sizes(slice_shape: tuple[int, int]) -> tuple[int, int, int]:
    """Numbers of each group, for slices of (mel bands, frames)."""
    num_mels, num_frames = slice_shape
    bands, rhythm_bands = min(BANDS, num_mels), min(RHYTHM_BANDS, num_mels)
    num_octaves = len(_octave_edges(num_frames)) - 1
    return bands * len(QUANTILES), bands, rhythm_bands * num_octaves


def spectral_embedding(unit_BMT: np.ndarray) -> np.ndarray:
    """The embedding of slices, float32 [B, E]; cells in [0, 1]."""
    bands_BNT = _mean_bands(unit_BMT, BANDS)
    quantiles = np.quantile(bands_BNT, QUANTILES, axis=2)
    groups = [
        quantiles.transpose(1, 0, 2).reshape(len(unit_BMT), -1),
        np.abs(np.diff(bands_BNT, axis=2)).mean(2),
        _rhythm(_mean_bands(unit_BMT, RHYTHM_BANDS)),
    ]
    return np.concatenate(groups, axis=1).astype(np.float32)


def _mean_bands(unit_BMT: np.ndarray, most: int) -> np.ndarray:
    """Means of neighbouring mel bands, [B, N, T] with N at most `most`."""
    num_mels = unit_BMT.shape[1]
    edges = np.linspace(0, num_mels, min(most, num_mels) + 1).astype(int)
    sums = np.add.reduceat(unit_BMT, edges[:-1], axis=1)
    return np.asarray(sums / np.diff(edges)[:, None])


def _rhythm(bands_BNT: np.ndarray) -> np.ndarray:
    """Log magnitudes of the modulation spectrum of each band, in octaves, [B, N * octaves]."""
    num_frames = bands_BNT.shape[2]
    centred = bands_BNT - bands_BNT.mean(2, keepdims=True)
    magnitude = np.abs(np.fft.rfft(centred * np.hanning(num_frames), axis=2))
    edges = _octave_edges(num_frames)
    octaves = [magnitude[:, :, low:high].mean(2) for low, high in itertools.pairwise(edges)]
    rhythm: np.ndarray = np.log1p(np.stack(octaves, axis=2))
    return rhythm.reshape(len(bands_BNT), -1)


def _octave_edges(num_frames: int) -> list[int]:
    """Edges of the octaves, in cycles per slice, as far as its frames can show them."""
    return [2**octave for octave in range(OCTAVES + 1) if 2**octave <= num_frames // 2]


class SpectralEmbedder:
    """The embedding by numpy alone; an `Embedder`."""

    takes = None
    is_alone = True

    def __init__(self) -> None:
        settings = [VERSION, BANDS, RHYTHM_BANDS, list(QUANTILES), OCTAVES]
        self.record = ModelRecord(
            name=SPECTRAL,
            sha256=digest_json({"spectral": settings}),
            licence="",
            takes="slices",
            output="quantiles, changes and rhythms of bands",
        )

    def embed(self, inputs: np.ndarray) -> np.ndarray:
        """Embeddings, float32 [B, E], of cells [B, M, T]."""
        return spectral_embedding(to_unit(inputs))
