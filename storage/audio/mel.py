"""Waveform -> log-mel slice, with librosa's values, slice by slice.

Shapes: S samples of a slice, W samples of a window, M mel bands, T frames, F frequency bins.

Each slice has its own STFT: the start of a slice is rarely a whole number of hops, and slices cut
from one grid over the whole recording differ by 1.5-2.4 dB. The filterbank's triangles are narrow,
so the product runs over a few bands of bins instead of all of them.
Agrees with `librosa.feature.melspectrogram` and `power_to_db(ref=max, top_db=...)`, or with
`recipe.power` 1 `amplitude_to_db`, within 0.01 dB.

Measured, one core: 0.5 ms a slice up to `power`, 0.04 ms for `decibels`. Blocks of frames stay in
the second-level cache: the FFT takes two thirds of the time. numpy squares the parts of complex
numbers 3 times as fast as torch, and takes logarithms 4 times as fast.
"""

import math

import numpy as np
import torch
from torch import Tensor

from storage.recipe import Recipe

NUM_BANDS = 8
BLOCK_FRAMES = 160


class MelTransform:
    """Makes mel slices of one recipe; `filterbank_MF` is `mel_filterbank(recipe)`.

    Holds a buffer: for one thread at a time.
    """

    def __init__(self, recipe: Recipe, filterbank_MF: np.ndarray) -> None:
        if filterbank_MF.shape != (recipe.n_mels, recipe.n_fft // 2 + 1):
            raise ValueError(f"a filterbank of shape {filterbank_MF.shape} is not one of {recipe}")
        self.recipe = recipe
        self._bands = _split_bands(filterbank_MF)
        self._window = torch.hann_window(recipe.n_fft, periodic=True, dtype=torch.float32)
        self._padded = torch.zeros(recipe.slice_samples + recipe.n_fft)
        self._power_TF = np.empty((recipe.num_frames, recipe.n_fft // 2 + 1), np.float32)

    def power(self, samples_S: np.ndarray, out: Tensor | None = None) -> Tensor:
        """Mel power of one slice, float32 [M, T]; samples as float32 [S], full scale 1.

        With `recipe.power` 1 it is the square of the mel magnitude. Written into `out` where it is
        given.
        """
        recipe = self.recipe
        half = recipe.n_fft // 2
        self._padded[half : half + recipe.slice_samples] = torch.from_numpy(samples_S)
        frames_TW = self._padded.unfold(0, recipe.n_fft, recipe.hop)
        for start in range(0, recipe.num_frames, BLOCK_FRAMES):
            block = slice(start, start + BLOCK_FRAMES)
            spectrum_TF = torch.fft.rfft(frames_TW[block] * self._window).numpy()
            np.square(spectrum_TF.real, out=self._power_TF[block])
            self._power_TF[block] += np.square(spectrum_TF.imag)
        if recipe.power == 1:
            np.sqrt(self._power_TF, out=self._power_TF)
        power_TF = torch.from_numpy(self._power_TF)
        mel_MT = torch.empty(recipe.slice_shape) if out is None else out
        for mels, bins, weights_MF in self._bands:
            torch.matmul(weights_MF, power_TF[:, bins].T, out=mel_MT[mels])
        return mel_MT.square_() if recipe.power == 1 else mel_MT

    def decibels(self, power_MT: Tensor) -> tuple[Tensor, float]:
        """(dB relative to the slice maximum, in [-top_db, 0]; that maximum in absolute dB).

        With the normaliser log, dB of (power + amin) relative to `ceiling_db` instead. A slice
        whose maximum is at most `amin` is silence: -top_db everywhere.
        """
        recipe = self.recipe
        maximum = float(power_MT.max())
        if not maximum > recipe.amin:
            return torch.full_like(power_MT, -recipe.top_db), 10 * math.log10(recipe.amin)
        max_db = 10 * math.log10(maximum)
        relative = recipe.relative_to_slice
        db_MT = power_MT.clamp_min(recipe.amin) if relative else power_MT + recipe.amin
        np.log(db_MT.numpy(), out=db_MT.numpy())
        db_MT.mul_(10 / math.log(10)).sub_(max_db if relative else recipe.ceiling_db)
        return db_MT.clamp_(min=-recipe.top_db, max=0), max_db


def _split_bands(filterbank_MF: np.ndarray) -> list[tuple[slice, slice, Tensor]]:
    """Groups of neighbouring mel bands, so that few zeros are multiplied.

    Of each: its bands, the run of bins in which their filters are not zero, the weights [M, F].
    """
    bands = []
    for mels in np.array_split(np.arange(len(filterbank_MF)), NUM_BANDS):
        block = filterbank_MF[mels]
        used = np.flatnonzero(block.any(axis=0))
        bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
        weights_MF = torch.from_numpy(np.ascontiguousarray(block[:, bins]))
        bands.append((slice(int(mels[0]), int(mels[-1]) + 1), bins, weights_MF))
    return bands
