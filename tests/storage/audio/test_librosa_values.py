"""librosa's values do not depend on its version: every release we allow gives those of 0.11.

The tables were printed by librosa 0.11.0 and numpy 2.4.6; the same command prints those of the
librosa that is installed:

    python -m tests.storage.audio.test_librosa_values
"""

from dataclasses import replace
from typing import Any

import librosa
import numpy as np
import pytest

from storage.audio.filterbank import mel_filterbank
from storage.recipe import Recipe
from tests.storage.audio.test_mel import our_db
from tools.benchmarks.building.librosa_baseline import librosa_db

RECIPE = Recipe()
BANDS, FRAMES = slice(5, None, 16), slice(None, None, 52)

FILTER_SUMS = [0.031687, 0.031687, 0.031944, 0.031877, 0.03192, 0.03218, 0.03207, 0.03199]
FILTER_BINS = [6.0123, 20.6955, 35.5066, 56.834, 90.8005, 145.1297, 232.0043, 370.9301]
DECIBELS = [
    [-32.672, -44.008, -26.21, -32.913, -22.005, -35.079, -20.662],
    [-28.226, -36.309, -25.397, -26.562, -27.997, -16.823, -25.417],
    [-19.84, -35.48, -35.792, -31.933, -27.155, -20.891, -20.923],
    [-39.512, -35.32, -30.71, -28.705, -28.808, -20.27, -26.057],
    [-49.659, -36.547, -29.121, -30.019, -22.663, -27.707, -18.458],
    [-58.275, -36.369, -31.078, -26.129, -25.162, -22.507, -23.912],
    [-65.598, -37.889, -32.601, -27.398, -22.814, -23.919, -26.403],
    [-71.531, -34.719, -31.361, -26.676, -24.957, -20.422, -23.296],
]


def noise() -> np.ndarray:
    """Seeded noise with a tone in it that sweeps up, float32 [S]: 0 to -50 dB in most bands."""
    time_s = np.arange(RECIPE.slice_samples) / RECIPE.sample_rate_hz
    tone = np.sin(2 * np.pi * (1_000 + 1_000 * time_s) * time_s)
    uniform = np.random.default_rng(13).uniform(-0.1, 0.1, RECIPE.slice_samples)
    return (0.3 * tone + uniform * time_s).astype(np.float32)


def filter_sums() -> np.ndarray:
    """Sums of the weights of some mel filters, float64."""
    return mel_filterbank(RECIPE).astype(np.float64)[BANDS].sum(axis=1)


def filter_bins() -> np.ndarray:
    """Centres of the same filters, in bins."""
    weights_MF = mel_filterbank(RECIPE).astype(np.float64)[BANDS]
    return weights_MF @ np.arange(weights_MF.shape[1]) / weights_MF.sum(axis=1)


def librosa_decibels() -> np.ndarray:
    """Log-mel of `noise` by librosa at some bands and frames, dB below its maximum."""
    return librosa_db(noise(), RECIPE)[BANDS, FRAMES]


def test_filterbank_is_that_of_librosa_0_11() -> None:
    np.testing.assert_allclose(filter_sums(), FILTER_SUMS, rtol=0, atol=1e-5)
    np.testing.assert_allclose(filter_bins(), FILTER_BINS, rtol=1e-5)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"fmin_hz": 0.0, "n_mels": 64},
        {"fmin_hz": 50.0, "fmax_hz": 14_000.0, "n_fft": 1024},
        {"fmin_hz": 1_000.0, "n_mels": 40},
        {"fmin_hz": 2_000.5, "fmax_hz": 9_000.25},
        {"fmax_hz": 900.0, "n_mels": 16},
        {"sample_rate_hz": 48_000, "fmax_hz": 24_000.0, "n_fft": 4096, "n_mels": 256},
        {"sample_rate_hz": 22_050, "fmax_hz": 11_025.0, "n_fft": 512, "n_mels": 24},
        {"sample_rate_hz": 256_000, "fmin_hz": 10_000.0, "fmax_hz": 120_000.0},
    ],
    ids=str,
)
def test_our_filterbank_has_the_bytes_of_librosa(changed: dict[str, Any]) -> None:
    recipe = replace(RECIPE, **changed)
    theirs = librosa.filters.mel(
        sr=recipe.sample_rate_hz,
        n_fft=recipe.n_fft,
        n_mels=recipe.n_mels,
        fmin=recipe.fmin_hz,
        fmax=recipe.fmax_hz,
    )
    ours = mel_filterbank(recipe)
    assert (ours.dtype, ours.tobytes()) == (theirs.dtype, theirs.tobytes())


def test_bands_without_a_bin_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="of 128 mel bands hold no frequency bin"):
        mel_filterbank(replace(RECIPE, n_fft=512))


def test_log_mel_is_that_of_librosa_0_11() -> None:
    np.testing.assert_allclose(librosa_decibels(), DECIBELS, rtol=0, atol=0.01)


def test_our_log_mel_is_that_of_librosa_0_11() -> None:
    db_MT = our_db(noise(), RECIPE)
    np.testing.assert_allclose(db_MT[BANDS, FRAMES], DECIBELS, rtol=0, atol=0.01)


if __name__ == "__main__":
    print(f"librosa {librosa.__version__}, numpy {np.__version__}")
    print("FILTER_SUMS =", filter_sums().round(6).tolist())
    print("FILTER_BINS =", filter_bins().round(4).tolist())
    print("DECIBELS =", librosa_decibels().astype(np.float64).round(3).tolist())
