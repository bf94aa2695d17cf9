"""Decibels <-> stored cells. Normalised values are (dB + top_db) / top_db, in [0, 1].

uint8 keeps 256 steps: 80 / 255 dB each, an error of at most 0.157 dB at the default range.
"""

from typing import TYPE_CHECKING

import numpy as np

from storage.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor  # readers want `normalised` without torch's seconds of import


def encode(db_MT: "Tensor", recipe: Recipe) -> np.ndarray:
    """Cells [M, T] of a slice, from dB relative to its maximum in [-top_db, 0]."""
    return encode_unit((db_MT * (1 / recipe.top_db)).add_(1), recipe)


def encode_unit(unit_MT: "Tensor", recipe: Recipe) -> np.ndarray:
    """Cells [M, T] of a slice, from normalised values, which are lost."""
    if recipe.encoding == "uint8":
        unit_MT.mul_(255).round_()
    return unit_MT.numpy().astype(recipe.dtype)


def normalised(cells: np.ndarray) -> np.ndarray:
    """float32 in [0, 1] from cells of any encoding."""
    values = cells.astype(np.float32)
    return values / np.float32(255) if cells.dtype == np.uint8 else values


def decibels(cells: np.ndarray, recipe: Recipe) -> np.ndarray:
    """dB relative to the slice maximum, float32, from cells of any encoding."""
    return normalised(cells) * np.float32(recipe.top_db) - np.float32(recipe.top_db)
