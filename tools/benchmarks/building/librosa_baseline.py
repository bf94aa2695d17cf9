"""The usual notebook way of making slices: librosa for everything, one float32 .npy per slice."""

from pathlib import Path

import librosa
import numpy as np

from storage.audio.slicing import cut_slices
from storage.recipe import Recipe

RECIPE = Recipe()


def write_slices(recording: Path, folder: Path) -> int:
    """Makes the slices of one recording; returns how many."""
    target = folder / recording.stem
    target.mkdir(parents=True)
    samples, _ = librosa.load(recording, sr=RECIPE.sample_rate_hz)
    count = 0
    for samples_S in cut_slices([samples], RECIPE):
        db = librosa_db(samples_S)
        low, high = db.min(), db.max()
        unit = (db - low) / (high - low + 1e-8)
        np.save(target / f"{count}.npy", unit.astype(np.float32))
        count += 1
    return count


def librosa_db(samples_S: np.ndarray, recipe: Recipe = RECIPE) -> np.ndarray:
    """dB relative to the slice maximum, float32 [M, T]."""
    power = librosa.feature.melspectrogram(
        y=samples_S,
        sr=recipe.sample_rate_hz,
        n_fft=recipe.n_fft,
        hop_length=recipe.hop,
        n_mels=recipe.n_mels,
        fmin=recipe.fmin_hz,
        fmax=recipe.fmax_hz,
    )
    db: np.ndarray = librosa.power_to_db(power, ref=np.max, top_db=recipe.top_db)
    return db


def warm_up() -> None:
    """Has librosa import most of itself, as it does at the first call."""
    librosa_db(np.ones(RECIPE.slice_samples, np.float32))
