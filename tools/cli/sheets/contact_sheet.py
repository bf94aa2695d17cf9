"""Draws mel slices as a grid of spectrograms, with axes in seconds and hertz.

    write_contact_sheet(store.read(rows), recipe, titles, Path("sheet.png"))

Costs about 1 s for 12 slices and 4 s for 64.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from storage.audio.mel_axis import frequency_ticks
from storage.encoding import decibels
from storage.recipe import Recipe

TITLE_CHARACTERS = 40  # in one line above a panel

# Inches: a panel, the room around it, and the margins of the sheet.
PANEL = (2.7, 1.9)
GAP = (0.22, 0.5)
LEFT, RIGHT, TOP, BOTTOM = 0.85, 1.05, 0.55, 0.65
DPI = 120


def write_contact_sheet(
    slices_NMT: np.ndarray[Any, Any],
    recipe: Recipe,
    titles: Sequence[str],
    path: Path,
    *,
    columns: int | None = None,
) -> None:
    """Writes a PNG with one panel per slice, in order, row by row; about as many rows as columns.

    `slices_NMT` is [1 to 64, mel bands, frames], uint8 or float in [0, 1] as a store holds it, both
    scaled to `recipe.top_db` below the slice's own maximum, or the ceiling of the recipe. A title
    has two lines at most.
    """
    num_panels = len(slices_NMT)
    columns = columns or math.ceil(math.sqrt(num_panels))
    rows = math.ceil(num_panels / columns)
    width = LEFT + columns * PANEL[0] + (columns - 1) * GAP[0] + RIGHT
    height = TOP + rows * PANEL[1] + (rows - 1) * GAP[1] + BOTTOM
    figure = Figure(figsize=(width, height), dpi=DPI)
    for number, (slice_MT, title) in enumerate(zip(slices_NMT, titles, strict=True)):
        row, column = divmod(number, columns)
        left = LEFT + column * (PANEL[0] + GAP[0])
        bottom = height - TOP - PANEL[1] - row * (PANEL[1] + GAP[1])
        axes = figure.add_axes((left / width, bottom / height, PANEL[0] / width, PANEL[1] / height))
        image = _draw_slice(axes, slice_MT, recipe)
        _label_panel(axes, title, leftmost=column == 0, lowest=number + columns >= num_panels)
    bar_height = min(3.5, height - TOP - BOTTOM)
    bar_bottom = (height - TOP + BOTTOM - bar_height) / 2
    bar = figure.add_axes(
        ((width - RIGHT + 0.2) / width, bar_bottom / height, 0.14 / width, bar_height / height)
    )
    figure.colorbar(image, cax=bar)
    reference = "slice maximum" if recipe.relative_to_slice else f"{recipe.ceiling_db:g} dB"
    bar.set_ylabel(f"level (dB re {reference})", fontsize=8)
    bar.tick_params(labelsize=7, length=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph ")  # a box for a letter that the font lacks
        figure.savefig(path, format="png")


def shorten_title(line: str) -> str:
    """A line that fits above a panel: the beginning and an ellipsis where it is too long."""
    return line if len(line) <= TITLE_CHARACTERS else f"{line[: TITLE_CHARACTERS - 1]}…"


def _draw_slice(axes: Axes, slice_MT: np.ndarray[Any, Any], recipe: Recipe) -> AxesImage:
    """One spectrogram; each cell is around its own frame time and band centre."""
    frame_s = recipe.hop / recipe.sample_rate_hz
    edges_s = (-0.5 * frame_s, (recipe.num_frames - 0.5) * frame_s)
    image = axes.imshow(
        decibels(slice_MT, recipe.top_db),
        origin="lower",
        aspect="auto",
        extent=(*edges_s, -0.5, recipe.n_mels - 0.5),
        cmap="magma",
        vmin=-recipe.top_db,
        vmax=0,
    )
    ticks = frequency_ticks(recipe)
    axes.set_yticks(list(ticks.values()), [f"{frequency_hz:,}" for frequency_hz in ticks])
    axes.set_xlim(0, recipe.slice_s)
    return image


def _label_panel(axes: Axes, title: str, *, leftmost: bool, lowest: bool) -> None:
    lines = [shorten_title(line) for line in title.split("\n")]
    axes.set_title("\n".join(lines[:2]), fontsize=8, pad=3, parse_math=False)
    axes.tick_params(labelsize=7, length=2, labelleft=leftmost, labelbottom=lowest)
    if leftmost:
        axes.set_ylabel("frequency (Hz)", fontsize=8)
    if lowest:
        axes.set_xlabel("time in slice (s)", fontsize=8)
