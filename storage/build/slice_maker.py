"""Recording -> slices: cut from audio and transformed, or read ready from a folder.

The counterpart of `intake` in the workers. Shapes: M mel bands, T frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from storage.audio.channels import MEAN
from storage.audio.decode import AudioHeader, Decoder
from storage.audio.features import Features, slice_features
from storage.audio.filterbank import band_centres_hz
from storage.audio.mel import MelTransform
from storage.audio.slicing import cut_slices
from storage.encoding import encode, quantise
from storage.recipe import FOREIGN, Recipe
from storage.source.npy_folder import NpyReader

GROUP_SLICES = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MadeSlice:
    """One slice: its cells [M, T] as stored, and the features of its index row."""

    cells: np.ndarray
    features: Features


class Medium(Protocol):
    """Medium of a recording: audio or ready slices; complete once its slices have been made."""

    duration_s: float
    problem: str | None

    @property
    def header(self) -> AudioHeader | None:
        """Declared properties of the audio, if there is audio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """A recording under way: take all `slices`, then ask `medium` what it met."""

    medium: Medium
    slices: Iterator[MadeSlice]


class SliceMaker(Protocol):
    """Makes slices of one recipe from one kind of recording."""

    def open(self, path: Path) -> Making:
        """A recording; taking its slices raises AudioError where it cannot be used."""


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
        return Making(medium=decoder, slices=self._cut(decoder))

    def _cut(self, decoder: Decoder) -> Iterator[MadeSlice]:
        transform, recipe = self._transform, self._recipe
        slices = cut_slices(decoder, recipe)
        while group := list(map(transform.power, islice(slices, GROUP_SLICES), self._power_GMT)):
            for power_MT in group:
                db_MT, max_db = transform.decibels(power_MT)
                features = slice_features(power_MT, max_db, self._centres_hz, recipe)
                yield MadeSlice(
                    cells=encode(db_MT, top_db=recipe.top_db, dtype=recipe.dtype), features=features
                )


class NpySlices:
    """Takes slices from folders; their absolute levels are not known."""

    def __init__(self, recipe: Recipe, filterbank_MF: np.ndarray) -> None:
        self._recipe = recipe
        self._centres_hz = band_centres_hz(filterbank_MF, recipe)

    def open(self, path: Path) -> Making:
        reader = NpyReader(path, self._recipe)
        return Making(medium=reader, slices=self._take(reader))

    def _take(self, reader: NpyReader) -> Iterator[MadeSlice]:
        top_db = self._recipe.top_db
        silence_db = 10 * float(np.log10(self._recipe.amin))
        for unit_MT in map(torch.from_numpy, reader):
            power_MT = torch.pow(10, (unit_MT - 1) * (top_db / 10))
            max_db = 0.0 if unit_MT.max() > 0 else silence_db
            features = slice_features(power_MT, max_db, self._centres_hz, self._recipe)
            features |= {"max_db": None, "mean_db": None}
            yield MadeSlice(cells=quantise(unit_MT.numpy(), self._recipe.dtype), features=features)


def slice_maker(recipe: Recipe, filterbank_MF: np.ndarray, channel: str = MEAN) -> SliceMaker:
    """The maker of a recipe; `filterbank_MF` is `mel_filterbank(recipe)`."""
    if recipe.origin == FOREIGN:
        return NpySlices(recipe, filterbank_MF)
    return AudioSlices(recipe, filterbank_MF, channel)
