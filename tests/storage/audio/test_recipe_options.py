"""Options of the recipe: magnitude or power, mel scale, normaliser; librosa's values, old files."""

import json
from dataclasses import asdict, replace

import librosa
import numpy as np
import pytest
import torch

from storage.audio.features import slice_features
from storage.audio.filterbank import band_centres_hz, mel_filterbank
from storage.audio.mel import MelTransform
from storage.audio.mel_axis import band_of_hz
from storage.encoding import encode, to_unit
from storage.errors import ConfigError, StoreError
from storage.format.manifest import Manifest
from storage.recipe import Recipe
from tests.sounds import chirps
from training.inference.export.front_end import FrontEnd
from training.model.pretrained import check_recipe

OLD = {
    "sample_rate_hz": 32000,
    "n_fft": 1024,
    "hop": 512,
    "n_mels": 128,
    "fmin_hz": 20.0,
    "fmax_hz": 16000.0,
    "slice_s": 5.0,
    "slice_step_s": 2.5,
    "tail_min_s": 0.5,
    "padding": "wrap",
    "top_db": 80.0,
    "amin": 1e-10,
    "encoding": "uint8",
    "origin": "melbank",
}  # of a melbank.json from before the options
OLD_DIGEST = "58deebf92c176aab"

SHORT = Recipe(sample_rate_hz=16_000, fmax_hz=8000, slice_s=1.0, n_mels=64)
RECIPES = {
    "magnitude": replace(SHORT, power=1),
    "htk": replace(SHORT, mel_scale="htk"),
    "log": replace(SHORT, normaliser="log", ceiling_db=20.0, amin=1e-6, top_db=80),
    "log of magnitudes, htk": replace(
        SHORT, power=1, mel_scale="htk", normaliser="log", ceiling_db=10.0, top_db=70
    ),
}


def transformed(samples_S, recipe):
    transform = MelTransform(recipe, mel_filterbank(recipe))
    power_MT = transform.power(samples_S)
    return power_MT, *transform.decibels(power_MT)


def librosa_mel(samples_S, recipe):
    """librosa's mel spectrogram, of magnitudes or of powers."""
    return librosa.feature.melspectrogram(
        y=samples_S,
        sr=recipe.sample_rate_hz,
        n_fft=recipe.n_fft,
        hop_length=recipe.hop,
        n_mels=recipe.n_mels,
        fmin=recipe.fmin_hz,
        fmax=recipe.fmax_hz,
        power=recipe.power,
        htk=recipe.mel_scale == "htk",
    )


def librosa_db(samples_S, recipe):
    """dB relative to the slice maximum, or to the ceiling, as librosa and numpy have it."""
    mel_MT = librosa_mel(samples_S, recipe)
    if recipe.normaliser == "log":
        power_MT = mel_MT.astype(np.float64) ** (2 / recipe.power)
        db_MT = 10 * np.log10(power_MT + recipe.amin) - recipe.ceiling_db
        return db_MT.clip(-recipe.top_db, 0)
    to_db = librosa.amplitude_to_db if recipe.power == 1 else librosa.power_to_db
    return to_db(mel_MT, ref=np.max, top_db=recipe.top_db)


def sounds():
    for seed, level in enumerate((1.0, 0.03)):
        yield chirps(1.0, np.random.default_rng(seed), 16_000) * np.float32(level)


@pytest.mark.parametrize("name", RECIPES)
def test_values_are_those_of_librosa(name):
    recipe = RECIPES[name]
    for samples_S in sounds():
        _, db_MT, _ = transformed(samples_S, recipe)
        assert np.abs(db_MT.numpy() - librosa_db(samples_S, recipe)).max() < 0.01


@pytest.mark.parametrize("name", RECIPES)
def test_an_exported_front_end_makes_the_cells_of_the_store(name):
    recipe = RECIPES[name]
    front_end = FrontEnd(recipe, mel_filterbank(recipe))
    for samples_S in sounds():
        _, db_MT, _ = transformed(samples_S, recipe)
        cells = encode(db_MT, top_db=recipe.top_db, dtype=recipe.dtype)
        made = front_end(torch.from_numpy(samples_S)[None])[0].numpy()
        assert np.abs(made - to_unit(cells)).max() < 1.5 / 255


def test_levels_of_magnitudes_are_20_log10_of_the_largest():
    recipe, samples_S = RECIPES["magnitude"], next(sounds())
    power_MT, _, max_db = transformed(samples_S, recipe)
    largest = librosa_mel(samples_S, recipe).max()
    assert max_db == pytest.approx(20 * np.log10(largest), abs=1e-3)
    centres_hz = band_centres_hz(mel_filterbank(recipe), recipe)
    features = slice_features(power_MT, max_db, centres_hz, recipe)
    assert features["max_db"] == max_db
    assert features["mean_db"] < max_db


@pytest.mark.parametrize("power", [1, 2])
def test_absolute_levels_move_with_the_sound_and_relative_ones_do_not(power):
    loud = next(sounds())
    quiet = loud * np.float32(0.1)  # 20 dB below
    absolute = replace(SHORT, normaliser="log", power=power, ceiling_db=60, top_db=120)
    assert not absolute.relative_to_slice
    levels = [transformed(samples_S, absolute)[1].numpy() for samples_S in (loud, quiet)]
    np.testing.assert_allclose(levels[0].max() - levels[1].max(), 20, atol=1e-3)
    relative = replace(SHORT, power=power)
    assert relative.relative_to_slice
    for samples_S, max_db in ((loud, None), (quiet, None)):
        _, db_MT, max_db = transformed(samples_S, relative)
        assert float(db_MT.max()) == pytest.approx(0, abs=1e-4)
        assert max_db == pytest.approx(transformed(samples_S, absolute)[2])


@pytest.mark.parametrize("name", RECIPES)
def test_silence_is_all_zeros(name):
    recipe = RECIPES[name]
    _, db_MT, max_db = transformed(np.zeros(recipe.slice_samples, np.float32), recipe)
    assert max_db == pytest.approx(10 * np.log10(recipe.amin))
    assert not encode(db_MT, top_db=recipe.top_db, dtype=recipe.dtype).any()


def test_frequencies_have_their_place_on_both_scales():
    htk = replace(SHORT, mel_scale="htk")
    for recipe in (SHORT, htk):
        centres_hz = band_centres_hz(mel_filterbank(recipe), recipe)
        assert band_of_hz(centres_hz[40], recipe) == pytest.approx(40, abs=0.2)
    assert abs(band_of_hz(1000, SHORT) - band_of_hz(1000, htk)) > 0.5


def test_a_recipe_without_the_options_is_written_as_before():
    assert Recipe().to_dict() == OLD
    assert list(Recipe().to_dict()) == list(OLD)
    assert Recipe().digest() == OLD_DIGEST
    assert Recipe.parse(OLD) == Recipe()


def test_a_store_from_before_the_options_is_read_and_new_keys_are_kept():
    document = Manifest(store_id="7", recipe=Recipe(), part_slices=64).to_dict()
    assert document["recipe"] == OLD
    assert document["recipe_hash"] == OLD_DIGEST
    assert Manifest.from_dict(document, "it").recipe == Recipe()
    for recipe in RECIPES.values():
        new = Manifest(store_id="7", recipe=recipe, part_slices=64)
        assert Manifest.from_dict(json.loads(new.encode()), "it").recipe == recipe
    assert len({recipe.digest() for recipe in (SHORT, *RECIPES.values())}) == 5


def test_a_store_is_not_extended_by_another_recipe():
    manifest = Manifest(store_id="7", recipe=Recipe(), part_slices=64)
    with pytest.raises(ConfigError, match="power: 1 here, 2 there"):
        manifest.check_recipe(Recipe(power=1), "store")


@pytest.mark.parametrize(
    "changed",
    [{"power": 1}, {"mel_scale": "htk"}, {"normaliser": "log"}],
    ids=lambda changed: next(iter(changed)),
)
def test_a_model_is_told_from_one_of_other_slices(changed):
    (name,) = changed
    check_recipe("a.ckpt", Recipe(), Recipe(slice_step_s=1.0))
    for there, here in ((Recipe(), Recipe(**changed)), (Recipe(**changed), Recipe())):
        with pytest.raises(ConfigError, match=rf"recipe\.{name} is .* there, .* here"):
            check_recipe("a.ckpt", there, here)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"power": 3}, r"recipe\.power=3 is none of 1, 2"),
        ({"mel_scale": "bark"}, r"recipe\.mel_scale=bark is none of slaney, htk"),
        ({"normaliser": "pcen"}, r"recipe\.normaliser=pcen is none of slice_max, log"),
        ({"ceiling_db": 10.0}, r"recipe\.ceiling_db=10 has no meaning .*normaliser=log"),
        ({"normaliser": "log", "ceiling_db": 999.0}, r"recipe\.ceiling_db=999 must lie between"),
        ({"normaliser": "log", "amin": 0.0}, r"needs recipe\.amin above 0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_impossible_options_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Recipe(**values)
    with pytest.raises(StoreError, match=message):
        Recipe.from_dict({**asdict(Recipe()), **values})
