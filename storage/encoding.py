"""Decibels <-> stored cells. Normalised values are (dB + top_db) / top_db, in [0, 1].

uint8 keeps 256 steps: 80 / 255 dB each, an error of at most 0.157 dB at the default range.
"""

import numpy as np
from torch import Tensor

from storage.recipe import Recipe


def encode(db_MT: Tensor, recipe: Recipe) -> np.ndarray:
    """Cells [M, T] of a slice, from dB relative to its maximum in [-top_db, 0]."""
    unit_MT = (db_MT + recipe.top_db) / recipe.top_db
    if recipe.encoding == "uint8":
        unit_MT = (unit_MT * 255).round()
    return unit_MT.numpy().astype(recipe.dtype)


def normalised(cells: np.ndarray) -> np.ndarray:
    """float32 in [0, 1] from cells of any encoding."""
    values = cells.astype(np.float32)
    return values / np.float32(255) if cells.dtype == np.uint8 else values


def decibels(cells: np.ndarray, recipe: Recipe) -> np.ndarray:
    """dB relative to the slice maximum, float32, from cells of any encoding."""
    return normalised(cells) * np.float32(recipe.top_db) - np.float32(recipe.top_db)
