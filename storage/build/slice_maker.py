"""Recording -> slices: cut from audio and transformed, or read ready from a folder.

The counterpart of `intake` in the workers. Shapes: M mel bands, T frames.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from storage.audio.channels import MEAN
from storage.audio.decode import Decoder
from storage.audio.features import Features, slice_features
from storage.audio.filterbank import band_centres_hz
from storage.audio.mel import MelTransform
from storage.audio.slicing import cut_slices
from storage.encoding import encode, quantise
from storage.recipe import FOREIGN, Recipe
from storage.source.npy_folder import NpyReader

GROUP_SLICES = 32

# One slice: its cells [M, T] as stored, and the features of its index row.
MadeSlice = tuple[np.ndarray, Features]
# What a recording is read by, which has met all of it once its slices have been taken. Taking them
# raises AudioError where the recording cannot be used.
Making = tuple[Decoder | NpyReader, Iterator[MadeSlice]]


class AudioSlices:
    """Cuts audio files.

    A few slices go through each step together: its code and tables then are in the processor's
    caches, which saves 5 to 10 % of a build.
    """

    def __init__(self, recipe: Recipe, filterbank_MF: np.ndarray, channel: str = MEAN) -> None:
        self._recipe = recipe
        self._channel = channel
        self._transform = MelTransform(recipe, filterbank_MF)
        self._centres_hz = band_centres_hz(filterbank_MF, recipe)
        self._power_GMT = torch.empty(GROUP_SLICES, *recipe.slice_shape)  # fresh memory is slow

    def open(self, path: Path) -> Making:
        decoder = Decoder(path, self._recipe.sample_rate_hz, self._channel)
        return decoder, self._cut(decoder)

    def _cut(self, decoder: Decoder) -> Iterator[MadeSlice]:
        transform, recipe = self._transform, self._recipe
        slices = cut_slices(decoder, recipe)
        while group := list(map(transform.power, islice(slices, GROUP_SLICES), self._power_GMT)):
            for power_MT in group:
                db_MT, max_db = transform.decibels(power_MT)
                features = slice_features(power_MT, max_db, self._centres_hz, recipe)
                yield encode(db_MT, top_db=recipe.top_db, dtype=recipe.dtype), features


class NpySlices:
    """Takes slices from folders; their absolute levels are not known."""

    def __init__(self, recipe: Recipe, filterbank_MF: np.ndarray) -> None:
        self._recipe = recipe
        self._centres_hz = band_centres_hz(filterbank_MF, recipe)

    def open(self, path: Path) -> Making:
        reader = NpyReader(path, self._recipe)
        return reader, self._take(reader)

    def _take(self, reader: NpyReader) -> Iterator[MadeSlice]:
        top_db = self._recipe.top_db
        silence_db = 10 * float(np.log10(self._recipe.amin))
        for unit_MT in map(torch.from_numpy, reader):
            power_MT = torch.pow(10, (unit_MT - 1) * (top_db / 10))
            max_db = 0.0 if unit_MT.max() > 0 else silence_db
            features = slice_features(power_MT, max_db, self._centres_hz, self._recipe)
            features |= {"max_db": None, "mean_db": None}
            yield quantise(unit_MT.numpy(), self._recipe.dtype), features


def slice_maker(
    recipe: Recipe, filterbank_MF: np.ndarray, channel: str = MEAN
) -> AudioSlices | NpySlices:
    """The maker of a recipe; `filterbank_MF` is `mel_filterbank(recipe)`."""
    if recipe.origin == FOREIGN:
        return NpySlices(recipe, filterbank_MF)
    return AudioSlices(recipe, filterbank_MF, channel)
