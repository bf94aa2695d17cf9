"""Pictures of slices: sheets of small ones, a large one, from stored slices; and the axes' data.

sheet_of(store, rows, Tile(width=156, height=64))
"""

from dataclasses import dataclass

import numpy as np

from storage.audio.filterbank import hz_to_mel, mel_to_hz
from storage.options import check_between, check_choice
from storage.read.pictures.thumbnails import COLOUR_MAP, COLOUR_MAPS, sheet_png
from storage.recipe import Recipe
from storage.store import Store

MAX_TILES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Size of a small picture, pixels, and its colours."""

    width: int = 156
    height: int = 64
    colour: str = COLOUR_MAP

    def __post_init__(self) -> None:
        check_between(self, "", 16, 640, "width")
        check_between(self, "", 16, 256, "height")
        check_choice(self, "", "colour", COLOUR_MAPS)


def sheet_of(store: Store, rows: np.ndarray, tile: Tile) -> bytes:
    """A PNG of slices by their int64 rows, one below the other."""
    return sheet_png(store.read(rows), (tile.width, tile.height), tile.colour)


def band_centres(recipe: Recipe) -> list[float]:
    """The frequency of the peak of each mel band, Hz, rising."""
    scale = recipe.mel_scale
    low, high = (hz_to_mel(hz, scale) for hz in (recipe.fmin_hz, recipe.fmax_hz))
    corners = mel_to_hz(np.linspace(low, high, recipe.n_mels + 2), scale)
    return [float(hz) for hz in corners[1:-1]]
