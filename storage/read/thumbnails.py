"""Spectrograms as small PNG images: a pixel per cell, low frequencies at the bottom.

    png = thumbnail_png(cells_MT)
    webp = thumbnail_webp(cells_MT, (156, 64))  # smaller, for pages with hundreds of them

An image has a palette of 256 colours, magma of matplotlib: perceptually uniform, and readable for
the colour-blind.
"""

import io
from functools import lru_cache

import numpy as np
from PIL import Image

from storage.encoding import to_unit

COLOURS = 256
COLOUR_MAP = "magma"
WEBP_QUALITY = 60


def thumbnail_png(cells_MT: np.ndarray) -> bytes:
    """The PNG of a slice, cells [M, T] of any encoding."""
    file = io.BytesIO()
    _image(cells_MT).save(file, "PNG", compress_level=1)
    return file.getvalue()


def thumbnail_webp(cells_MT: np.ndarray, size: tuple[int, int]) -> bytes:
    """A slice, cells [M, T] of any encoding, as WebP of (width, height) pixels; some 3 kB."""
    image = _image(cells_MT).convert("RGB").resize(size, Image.Resampling.BOX)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=WEBP_QUALITY)
    return file.getvalue()


def _image(cells_MT: np.ndarray) -> Image.Image:
    if cells_MT.dtype != np.uint8:
        cells_MT = np.rint(to_unit(cells_MT) * (COLOURS - 1)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(cells_MT[::-1]))
    image.putpalette(_palette())
    return image


@lru_cache(maxsize=1)
def _palette() -> bytes:
    from matplotlib import colormaps  # takes 0.2 s

    colours = colormaps[COLOUR_MAP](np.arange(COLOURS))[:, :3]
    return bytes(np.rint(colours * 255).astype(np.uint8).tobytes())
