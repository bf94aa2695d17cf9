"""Windows of recordings: positions, padding, and equality with the cells of a store."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.audio import decode
from storage.audio.filterbank import mel_filterbank
from storage.audio.mel import MelTransform
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.encoding import encode
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.predicting import RECIPE, write_recordings
from training.inference.reading.windows import ModelInput, Window, WindowCutter, WindowPlan

STEP = replace(RECIPE, slice_step_s=0.7, tail_min_s=0.1)


filterbank = cache(mel_filterbank)


def cutter_of(recipe: Recipe, *others: Recipe) -> WindowCutter:
    inputs = [ModelInput(recipe=one, filterbank_MF=filterbank(one)) for one in (recipe, *others)]
    return WindowCutter(WindowPlan(recipe=recipe, inputs=tuple(inputs)))


def cells_of(samples: np.ndarray, start: int, recipe: Recipe) -> np.ndarray:
    """The cells of one slice of an array, by plain numpy up to the spectrogram."""
    there = samples[start : start + recipe.slice_samples]
    filled = there[np.arange(recipe.slice_samples) % len(there)]
    transform = MelTransform(recipe, filterbank(recipe))
    db_MT, _ = transform.decibels(transform.power(filled))
    return encode(db_MT, top_db=recipe.top_db, dtype=recipe.dtype)


def windows_of(path: Path, *recipes: Recipe) -> list[Window]:
    return list(cutter_of(*recipes).open(path))


@given(
    num_samples=st.integers(1, 30_000), block=st.integers(100, 9000), step=st.integers(500, 9000)
)
@settings(max_examples=15)
def test_windows_are_where_a_plain_cut_of_the_array_has_them(
    num_samples: int, block: int, step: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("sound") / "a.wav"
    samples = np.random.default_rng(1).standard_normal(num_samples).astype(np.float32)
    soundfile.write(path, samples, 4000, subtype="FLOAT")
    recipe = replace(RECIPE, slice_step_s=step / 4000, tail_min_s=0.1)
    longer = replace(RECIPE, slice_s=2.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "BLOCK_VALUES", block)
        windows = windows_of(path, recipe, longer)
    starts = [0, *range(step, num_samples - 4000 + 1, step)]  # of whole windows, or the only one
    after = starts[-1] + step
    if num_samples - (starts[-1] + 4000) >= 400 and after < num_samples:
        starts.append(after)
    assert len(windows) == len(starts)
    for window, start in zip(windows[-2:], starts[-2:], strict=True):
        assert np.array_equal(window.cells[0][0], cells_of(samples, start, recipe))
        centred = max(0, start - 3000)
        assert np.array_equal(window.cells[1][0], cells_of(samples, centred, longer))


def test_shorter_slices_cover_the_window(tmp_path: Path) -> None:
    path = write_recordings(tmp_path, [6.0]) / "00.wav"
    shorter = replace(RECIPE, slice_s=0.4)
    samples, _ = soundfile.read(path, dtype="float32")
    for number, window in enumerate(windows_of(path, STEP, shorter)):
        starts = [number * 2800 + offset for offset in (0, 1200, 2400)]
        there = [start if start < len(samples) else starts[0] for start in starts]
        expected = [cells_of(samples, start, shorter) for start in there]
        assert np.array_equal(window.cells[1], np.stack(expected))


def test_other_rates_see_the_same_moment(tmp_path: Path) -> None:
    sound = np.zeros(40_000, np.float32)
    sound[20_000:20_400] = np.sin(np.arange(400) / 3)  # half a second into the window from 4.5 s
    soundfile.write(tmp_path / "a.wav", sound, 4000)
    slow = replace(RECIPE, sample_rate_hz=2000, fmax_hz=1000)
    recipe = replace(RECIPE, slice_step_s=0.5)
    window = windows_of(tmp_path / "a.wav", recipe, slow)[9]
    loudest = [cells[0].sum(0).argmax() / (cells.shape[2] - 1) for cells in window.cells]
    np.testing.assert_allclose(loudest, 0.55, atol=0.08)


def test_silence_is_flagged(tmp_path: Path) -> None:
    sound = np.zeros(12_000, np.float32)
    sound[:4000] = 0.1 * np.sin(np.arange(4000))
    soundfile.write(tmp_path / "a.wav", sound, 4000)
    windows = windows_of(tmp_path / "a.wav", replace(RECIPE, slice_step_s=1.0))
    assert [window.silent for window in windows] == [False, True, True]


def test_cells_are_those_of_a_store(tmp_path: Path) -> None:
    source = write_recordings(tmp_path / "source", [0.3, 1.0, 5.3, 7.77])
    recipe = replace(STEP, padding="zeros")
    config = SourceConfig(root=str(source), csv="none")
    build_store(config, recipe, str(tmp_path / "store"), BuildConfig(workers=1))
    with open_store(str(tmp_path / "store")) as store:
        for row in store.recordings().iter_rows(named=True):
            windows = windows_of(source / row["filename"], recipe)
            rows = row["first_row"] + np.arange(row["num_slices"])
            assert np.array_equal(
                np.concatenate([one.cells[0] for one in windows]), store.read(rows)
            )


def test_one_of_several_channels_is_taken(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).standard_normal((6000, 2)).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "a.wav", sound, 4000, subtype="FLOAT")
    given = ModelInput(recipe=STEP, filterbank_MF=filterbank(STEP))
    plan = WindowPlan(recipe=STEP, inputs=(given,), channel="right")
    window = next(iter(WindowCutter(plan).open(tmp_path / "a.wav")))
    assert np.array_equal(window.cells[0][0], cells_of(sound[:, 1], 0, STEP))
