"""Spectrograms as small PNG images: a pixel per cell, low frequencies at the bottom.

    png = thumbnail_png(cells_MT)

The image has a palette of 256 colours, magma of matplotlib: perceptually uniform, and readable for
the colour-blind.
"""

import io
from functools import lru_cache

import numpy as np
from PIL import Image

from storage.encoding import to_unit

COLOURS = 256
COLOUR_MAP = "magma"


def thumbnail_png(cells_MT: np.ndarray) -> bytes:
    """The PNG of a slice, cells [M, T] of any encoding."""
    if cells_MT.dtype != np.uint8:
        cells_MT = np.rint(to_unit(cells_MT) * (COLOURS - 1)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(cells_MT[::-1]))
    image.putpalette(_palette())
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


@lru_cache(maxsize=1)
def _palette() -> bytes:
    from matplotlib import colormaps  # takes 0.2 s

    colours = colormaps[COLOUR_MAP](np.arange(COLOURS))[:, :3]
    return bytes(np.rint(colours * 255).astype(np.uint8).tobytes())
