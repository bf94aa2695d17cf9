"""Spectrograms as small PNG images: a pixel per cell, low frequencies at the bottom.

    png = thumbnail_png(cells_MT)
    webp = thumbnail_webp(cells_MT, (156, 64))  # smaller, for pages with hundreds of them
    sheet = sheet_png(cells_NMT, (156, 64))  # many in one image, one below the other

An image has a palette of 256 colours of matplotlib: magma, or another that is perceptually uniform
and readable for the colour-blind.
"""

import io
from functools import lru_cache

import numpy as np
from PIL import Image

from storage.encoding import to_unit

COLOURS = 256
COLOUR_MAP = "magma"
COLOUR_MAPS = (COLOUR_MAP, "viridis", "cividis", "gray")
WEBP_QUALITY = 60


def thumbnail_png(cells_MT: np.ndarray, colour_map: str = COLOUR_MAP) -> bytes:
    """The PNG of a slice, cells [M, T] of any encoding."""
    image = _gray_image(cells_MT)
    image.putpalette(_palette(colour_map))
    return _png(image)


def sheet_png(cells_NMT: np.ndarray, size: tuple[int, int], colour_map: str = COLOUR_MAP) -> bytes:
    """A PNG of N slices, cells [N, M, T], one below the other, each (width, height) pixels."""
    width, height = size
    sheet = Image.new("P", (width, max(1, height * len(cells_NMT))))
    for number, cells_MT in enumerate(cells_NMT):
        tile = _gray_image(cells_MT).resize(size, Image.Resampling.BOX)
        sheet.paste(tile, (0, number * height))
    sheet.putpalette(_palette(colour_map))
    return _png(sheet)


def thumbnail_webp(cells_MT: np.ndarray, size: tuple[int, int]) -> bytes:
    """A slice, cells [M, T] of any encoding, as WebP of (width, height) pixels; some 3 kB."""
    image = _gray_image(cells_MT)
    image.putpalette(_palette(COLOUR_MAP))
    image = image.convert("RGB").resize(size, Image.Resampling.BOX)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=WEBP_QUALITY)
    return file.getvalue()


def _gray_image(cells_MT: np.ndarray) -> Image.Image:
    if cells_MT.dtype != np.uint8:
        cells_MT = np.rint(to_unit(cells_MT) * (COLOURS - 1)).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(cells_MT[::-1]))


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


@lru_cache(maxsize=len(COLOUR_MAPS))
def _palette(colour_map: str) -> bytes:
    from matplotlib import colormaps  # takes 0.2 s

    colours = colormaps[colour_map](np.arange(COLOURS))[:, :3]
    return bytes(np.rint(colours * 255).astype(np.uint8).tobytes())
