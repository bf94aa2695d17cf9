"""Slaney's mel filterbank of a recipe, with librosa's numbers to the last bit.

It is computed here, as importing librosa for it takes more than a second and 100 MB. The steps and
their order are those of `librosa.filters.mel` (librosa 0.11, ISC licence; Slaney, Auditory Toolbox,
1998), and a test compares the bytes. Shapes: M mel bands, F frequency bins.
"""

import warnings

import numpy as np

from storage.recipe import HTK, Recipe

HZ_PER_MEL = 200.0 / 3  # below 1 kHz the scale is linear,
LOG_FROM_HZ = 1000.0  # above it is logarithmic:
LOG_FROM_MEL = LOG_FROM_HZ / HZ_PER_MEL
HTK_MEL, HTK_HZ = 2595.0, 700.0  # of HTK's scale
LOG_STEP = np.log(6.4) / 27.0  # 27 mels from 1 to 6.4 kHz


def hz_to_mel(frequency_hz: float, scale: str) -> float:
    """The place of a frequency on a mel scale, Slaney's or that of HTK."""
    if scale == HTK:
        return float(HTK_MEL * np.log10(1.0 + frequency_hz / HTK_HZ))
    if frequency_hz >= LOG_FROM_HZ:
        return float(LOG_FROM_MEL + np.log(frequency_hz / LOG_FROM_HZ) / LOG_STEP)
    return frequency_hz / HZ_PER_MEL


def mel_to_hz(mels: np.ndarray, scale: str) -> np.ndarray:
    """Frequencies, Hz, of places on a mel scale, Slaney's or that of HTK."""
    if scale == HTK:
        return np.asarray(HTK_HZ * (10.0 ** (mels / HTK_MEL) - 1.0))
    frequencies = HZ_PER_MEL * mels
    is_log = mels >= LOG_FROM_MEL
    frequencies[is_log] = LOG_FROM_HZ * np.exp(LOG_STEP * (mels[is_log] - LOG_FROM_MEL))
    return frequencies


def mel_filterbank(recipe: Recipe) -> np.ndarray:
    """Triangles of equal area over the bins of the FFT, float32 [M, F].

    Warns where bands are narrower than the bins, so that some hold none.
    """
    scale = recipe.mel_scale
    lowest, highest = hz_to_mel(recipe.fmin_hz, scale), hz_to_mel(recipe.fmax_hz, scale)
    corners_hz = mel_to_hz(np.linspace(lowest, highest, recipe.n_mels + 2), scale)
    bins_hz = np.fft.rfftfreq(n=recipe.n_fft, d=1.0 / recipe.sample_rate_hz)
    widths_hz = np.diff(corners_hz)
    distances_hz = np.subtract.outer(corners_hz, bins_hz)
    filters_MF = np.zeros((recipe.n_mels, len(bins_hz)), np.float32)
    for mel in range(recipe.n_mels):
        rising = -distances_hz[mel] / widths_hz[mel]
        falling = distances_hz[mel + 2] / widths_hz[mel + 1]
        filters_MF[mel] = np.maximum(0, np.minimum(rising, falling))
    filters_MF *= (2.0 / (corners_hz[2:] - corners_hz[:-2]))[:, None]
    if num_empty := int(((corners_hz[:-2] != 0) & (filters_MF.max(axis=1) <= 0)).sum()):
        warnings.warn(
            f"{num_empty} of {recipe.n_mels} mel bands hold no frequency bin, and are empty: take "
            "a smaller recipe.n_mels or a larger recipe.n_fft",
            stacklevel=2,
        )
    return filters_MF


def band_centres_hz(filterbank_MF: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The centre of gravity of each mel filter, Hz, float64 [M]."""
    weights = filterbank_MF.astype(np.float64)
    sums = np.maximum(weights.sum(axis=1), 1e-12)
    centres_in_bins = weights @ np.arange(weights.shape[1]) / sums
    centres: np.ndarray = centres_in_bins * (recipe.sample_rate_hz / recipe.n_fft)
    return centres
