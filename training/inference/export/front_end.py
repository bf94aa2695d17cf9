"""The recipe's mel spectrogram as a network, for files that take waveforms.

    front_end = FrontEnd(recipe, mel_filterbank(recipe))
    slices_BMT = front_end(samples_BS)  # float32 in [0, 1]

Does what `storage.audio.mel` and `storage.encoding` do, in operators that ONNX has: Hann window,
centred frames with zeros outside, power, mel filterbank, dB relative to the slice's own maximum or
to the ceiling, the top `top_db` scaled to [0, 1] and rounded as the store's cells are. Differs from
them by the rounding of 32-bit Fourier transforms: here and there a cell is one step higher or
lower.

Costs 7 ms a slice of the default recipe on one core, where the store's own code takes 0.5.

Shapes: B slices, S samples, W samples of a window, M mel bands, T frames, F frequency bins that a
filter uses, K = 2 F.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from storage.encoding import ENCODINGS
from storage.errors import ConfigError
from storage.recipe import FOREIGN, Recipe

MAX_KERNEL_BYTES = 512 << 20


class FrontEnd(nn.Module):
    """Waveforms -> normalised mel slices; `filterbank_MF` is `mel_filterbank(recipe)`."""

    kernels_K1W: Tensor
    filterbank_MF: Tensor

    def __init__(self, recipe: Recipe, filterbank_MF: np.ndarray) -> None:
        super().__init__()
        if recipe.origin == FOREIGN:
            raise ConfigError(
                "the slices of a foreign recipe were made elsewhere, so they cannot be made from a "
                "waveform: export with export.mel=false"
            )
        self._recipe = recipe
        used_F = np.flatnonzero(filterbank_MF.any(axis=0))
        kernels_KW = fourier_kernels(recipe.n_fft, used_F)
        self.register_buffer("kernels_K1W", torch.from_numpy(kernels_KW)[:, None])
        filters = np.ascontiguousarray(filterbank_MF[:, used_F], np.float32)
        self.register_buffer("filterbank_MF", torch.from_numpy(filters))

    def forward(self, samples_BS: Tensor) -> Tensor:
        """Slices float32 [B, M, T] in [0, 1] of samples float32 [B, S], full scale 1."""
        return self._rounded(self._unit(self.power(samples_BS)))

    def power(self, samples_BS: Tensor) -> Tensor:
        """Mel power, float32 [B, M, T]."""
        hop, half = self._recipe.hop, self._recipe.n_fft // 2
        samples_B1S = samples_BS[:, None]
        parts_BKT = functional.conv1d(samples_B1S, self.kernels_K1W, stride=hop, padding=half)
        real_BFT, imaginary_BFT = parts_BKT.square().chunk(2, dim=1)
        power_BFT = real_BFT + imaginary_BFT
        if self._recipe.power == 1:
            return torch.matmul(self.filterbank_MF, power_BFT.sqrt()).square()
        return torch.matmul(self.filterbank_MF, power_BFT)

    def _unit(self, power_BMT: Tensor) -> Tensor:
        """dB relative to the slice's maximum, or the ceiling, as a share of the range.

        Silence is 0.
        """
        recipe = self._recipe
        maximum_B11 = power_BMT.amax(dim=(1, 2), keepdim=True)
        to_db = 10 / math.log(10)
        if recipe.relative_to_slice:
            db_BMT = (power_BMT.clamp_min(recipe.amin).log() - maximum_B11.log()) * to_db
        else:
            db_BMT = (power_BMT + recipe.amin).log() * to_db - recipe.ceiling_db
        unit_BMT = (db_BMT / recipe.top_db + 1).clamp(0, 1)
        return torch.where(maximum_B11 > recipe.amin, unit_BMT, torch.zeros_like(unit_BMT))

    def _rounded(self, unit_BMT: Tensor) -> Tensor:
        """The values that are left after storing them as cells; halves go to even, as in numpy."""
        encoding = self._recipe.encoding
        if encoding == "float16":
            return unit_BMT.half().float()
        top = ENCODINGS[encoding]
        return unit_BMT if top == 1 else (unit_BMT * top).round() / top


def fourier_kernels(n_fft: int, bins_F: np.ndarray) -> np.ndarray:
    """Kernels of a windowed Fourier transform, float32 [2 F, W]: cosines, then sines.

    By convolution it runs in every runtime, and torch cannot write its own for ONNX. Raises
    ConfigError where the kernels would not fit a file.
    """
    size = 2 * len(bins_F) * n_fft * 4
    if size > MAX_KERNEL_BYTES:
        raise ConfigError(
            f"recipe.n_fft={n_fft} needs kernels of {size >> 20} MiB to be exported with "
            f"export.mel=true, of at most {MAX_KERNEL_BYTES >> 20}: export with export.mel=false"
        )
    time_W = np.arange(n_fft)
    hann_W = 0.5 - 0.5 * np.cos(2 * np.pi * time_W / n_fft)
    turns_FW = np.outer(bins_F, time_W) % n_fft / n_fft  # whole turns removed: exact angles
    parts = [np.cos(2 * np.pi * turns_FW), np.sin(2 * np.pi * turns_FW)]
    return (np.concatenate(parts) * hann_W).astype(np.float32)
