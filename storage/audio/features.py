"""Cheap numbers per slice that say where something is heard. One row of the index each.

* `max_db`: the loudest mel cell, dB re full-scale power; with the normaliser slice_max, stored
  cells are relative to it. With `recipe.power` 1, power is the square of the mel magnitude, so it
  is 20 log10 of the largest magnitude.
* `mean_db`: mean power of all cells, dB re full scale.
* `active_share`: share of frames louder by 6 dB than the slice's own background, which is its
  10th-percentile frame (in [0, 1]; steady noise gives 0).
* `centroid_hz`: power-weighted mean of the band centres, Hz.
* `peak_hz`: centre of the band with the most power over the slice, Hz.
* `silent`: no cell above `amin`; centroid and peak are then null.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from storage.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor  # readers want the schema below without torch's seconds of import

BACKGROUND_QUANTILE = 0.1
ACTIVE_ABOVE_DB = 6.0
SCHEMA = {
    "max_db": pl.Float32,
    "mean_db": pl.Float32,
    "active_share": pl.Float32,
    "centroid_hz": pl.Float32,
    "peak_hz": pl.Float32,
    "silent": pl.Boolean,
}

IN_SHARDS = ("max_db",)  # the features that tar shards repeat

Features = dict[str, float | bool | None]


def slice_features(
    power_MT: "Tensor", max_db: float, band_centres_hz: np.ndarray, recipe: Recipe
) -> Features:
    """The features of one slice, from its mel power."""
    band_power_M = power_MT.sum(dim=1).numpy().astype(np.float64)
    total = float(band_power_M.sum())
    silent = max_db <= 10 * math.log10(recipe.amin)
    mean = max(total / power_MT.numel(), recipe.amin)
    return {
        "max_db": max_db,
        "mean_db": 10 * math.log10(mean),
        "active_share": 0.0 if silent else _active_share(power_MT, recipe),
        "centroid_hz": None if silent else float(band_power_M @ band_centres_hz) / total,
        "peak_hz": None if silent else float(band_centres_hz[np.argmax(band_power_M)]),
        "silent": silent,
    }


def _active_share(power_MT: "Tensor", recipe: Recipe) -> float:
    frame_power_T = power_MT.sum(dim=0).numpy()
    place = int(BACKGROUND_QUANTILE * (len(frame_power_T) - 1))
    background = max(float(np.partition(frame_power_T, place)[place]), recipe.amin)
    threshold = background * 10 ** (ACTIVE_ABOVE_DB / 10)
    return int(np.count_nonzero(frame_power_T > threshold)) / len(frame_power_T)
