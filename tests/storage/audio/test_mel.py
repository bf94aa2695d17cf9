"""Mel slices have librosa's values."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.audio.decode import Decoder
from storage.audio.filterbank import mel_filterbank
from storage.audio.mel import MelTransform
from storage.audio.slicing import cut_slices
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.encoding import decibels, encode, to_unit
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.sounds import chirps
from tools.benchmarks.building.librosa_baseline import librosa_db

RECIPE = Recipe()


@cache
def transform_of(recipe: Recipe) -> MelTransform:
    return MelTransform(recipe, mel_filterbank(recipe))


def our_db(samples_S: np.ndarray, recipe: Recipe) -> np.ndarray:
    transform = transform_of(recipe)
    return transform.decibels(transform.power(samples_S))[0].numpy()


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(RECIPE, id="default"),
        pytest.param(Recipe(n_fft=2048, hop=500, n_mels=64, slice_s=3.0), id="long-window"),
        pytest.param(
            Recipe(sample_rate_hz=22_050, fmin_hz=50, fmax_hz=11_025, n_mels=96, top_db=60),
            id="22-kHz",
        ),
    ],
)
def test_values_are_those_of_librosa(recipe: Recipe) -> None:
    rng = np.random.default_rng(1)
    for _ in range(3):
        samples_S = chirps(recipe.slice_s, rng, recipe.sample_rate_hz)[: recipe.slice_samples]
        assert np.abs(our_db(samples_S, recipe) - librosa_db(samples_S, recipe)).max() < 0.01


@settings(max_examples=40)
@given(st.floats(-100, 3), st.integers(0, 2**32 - 1))
def test_values_are_those_of_librosa_at_any_level(level_db: float, seed: int) -> None:
    recipe = Recipe(slice_s=0.5, slice_step_s=0.5)
    samples_S = chirps(0.5, np.random.default_rng(seed)) * np.float32(10 ** (level_db / 20))
    reference = librosa_db(samples_S, recipe)
    if librosa.feature.melspectrogram(y=samples_S, sr=32_000, n_fft=1024, fmin=20).max() > 1e-9:
        assert np.abs(our_db(samples_S, recipe) - reference).max() < 0.01


@pytest.mark.parametrize("value", [0.0, 1e-9], ids=["silence", "below-amin"])
def test_silence_is_all_zeros(value: float) -> None:
    transform = transform_of(RECIPE)
    power_MT = transform.power(np.full(RECIPE.slice_samples, value, np.float32))
    db_MT, max_db = transform.decibels(power_MT)
    assert max_db == -100
    assert not encode(db_MT, top_db=RECIPE.top_db, dtype=RECIPE.dtype).any()


@pytest.mark.parametrize(
    ("encoding", "error_db"), [("uint8", 0.157), ("float16", 0.03), ("float32", 1e-4)]
)
def test_encoding_loses_at_most_its_step(encoding: str, error_db: float) -> None:
    recipe = Recipe(encoding=encoding)
    db_MT = our_db(chirps(5.0, np.random.default_rng(2)), recipe)
    cells = encode(torch.from_numpy(db_MT), top_db=recipe.top_db, dtype=recipe.dtype)
    assert cells.dtype == encoding
    assert np.abs(decibels(cells, recipe.top_db) - db_MT).max() <= error_db
    assert to_unit(cells).max() == 1
    assert to_unit(cells).min() >= 0


def real_slices(path: Path) -> list[np.ndarray]:
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    mono = soxr.resample(samples.mean(axis=1), rate_hz, RECIPE.sample_rate_hz)
    return [piece.copy() for piece in cut_slices([mono], RECIPE)]


@pytest.mark.parametrize("num_files", [6, pytest.param(None, id="all", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["esc10", "birds_british"])
def test_real_recordings_have_librosas_values(name: str, num_files: int | None, real_data) -> None:
    """The two promises: 0.01 dB before quantising; then one step at most, none in 99.9 %."""
    files = sorted(real_data(name).glob("train_audio/*/*"))
    differing = cells = 0
    for path in files[:: len(files) // num_files if num_files else 1]:
        for samples_S in real_slices(path):
            ours, reference = our_db(samples_S, RECIPE), librosa_db(samples_S, RECIPE)
            assert np.abs(ours - reference).max() < 0.01, path
            step = np.abs(np.round((ours + 80) / 80 * 255) - np.round((reference + 80) / 80 * 255))
            assert step.max() <= 1, path
            differing, cells = differing + int(step.sum()), cells + step.size
    assert differing <= 0.001 * cells


@pytest.mark.slow
def test_every_stored_value_of_esc10_is_librosas_to_one_step(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    root = real_data("esc10")
    source = SourceConfig(root=str(root))
    build_store(source, RECIPE, str(tmp_path / "store"), BuildConfig())
    store = open_store(str(tmp_path / "store"))
    differing = cells = 0
    columns = ("filename", "first_row", "num_slices")
    for name, first_row, num in store.recordings().select(columns).iter_rows():
        stored = store.read(np.arange(first_row, first_row + num)).astype(np.int64)
        waveform = Decoder(root / "train_audio" / name, RECIPE.sample_rate_hz)
        for ours, samples_S in zip(stored, cut_slices(waveform, RECIPE), strict=True):
            wanted = np.round((librosa_db(samples_S, RECIPE) + 80) / 80 * 255)
            step = np.abs(ours - wanted)
            assert step.max() <= 1, name
            differing, cells = differing + int((step > 0).sum()), cells + step.size
    assert cells > 400 * 128 * 313
    assert differing <= 0.001 * cells
