"""Cells of a stretch of a recording that is not stored, cut by the recipe of a store."""

from functools import lru_cache

import numpy as np
import soundfile
import soxr

from storage.audio.filterbank import mel_filterbank
from storage.audio.mel import MelTransform
from storage.audio.slicing import fill_up
from storage.audio.sound_stream import SoundStream
from storage.encoding import encode
from storage.errors import AudioError
from storage.recipe import Recipe
from training.inference.exploring.sound import WavPart


def cut_stretch(part: WavPart, recipe: Recipe) -> np.ndarray:
    """Cells [M, T] of the slice that begins with a stretch; AudioError where it has no sound."""
    frames = min(part.frames, round(recipe.slice_s * part.rate_hz))
    try:
        with SoundStream(part.path) as file:
            file.go_to(part.first)
            samples = file.read(frames, dtype="float32", always_2d=True).mean(axis=1)
    except soundfile.LibsndfileError as error:
        raise AudioError("it cannot be decoded there") from error
    if not len(samples):
        raise AudioError("it has no sound there")
    if part.rate_hz != recipe.sample_rate_hz:
        samples = soxr.resample(samples, part.rate_hz, recipe.sample_rate_hz)
    samples = fill_up(samples[: recipe.slice_samples], recipe.slice_samples, recipe.padding)
    transform = _transform(recipe)
    power_MT = transform.power(np.ascontiguousarray(samples, np.float32))
    db_MT, _ = transform.decibels(power_MT)
    return np.asarray(encode(db_MT, top_db=recipe.top_db, dtype=recipe.dtype))


@lru_cache(maxsize=1)
def _transform(recipe: Recipe) -> MelTransform:
    return MelTransform(recipe, mel_filterbank(recipe))
