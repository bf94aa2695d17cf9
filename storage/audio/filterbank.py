"""librosa's mel filterbank of a recipe."""

import numpy as np

from storage.recipe import HTK, Recipe


def mel_filterbank(recipe: Recipe) -> np.ndarray:
    """librosa's filterbank of a recipe, with Slaney norm, float32 [M, F].

    librosa takes seconds and 100 MB to import, so it is imported here, once per build, and the
    workers get the numbers.
    """
    import librosa

    filters: np.ndarray = librosa.filters.mel(
        sr=recipe.sample_rate_hz,
        n_fft=recipe.n_fft,
        n_mels=recipe.n_mels,
        fmin=recipe.fmin_hz,
        fmax=recipe.fmax_hz,
        htk=recipe.mel_scale == HTK,
    )
    return filters


def band_centres_hz(filterbank_MF: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The centre of gravity of each mel filter, Hz, float64 [M]."""
    weights = filterbank_MF.astype(np.float64)
    sums = np.maximum(weights.sum(axis=1), 1e-12)
    centres_in_bins = weights @ np.arange(weights.shape[1]) / sums
    centres: np.ndarray = centres_in_bins * (recipe.sample_rate_hz / recipe.n_fft)
    return centres
