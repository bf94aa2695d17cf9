"""A store in a notebook: counts, recipe and a strip of spectrograms as HTML."""

import base64
from collections.abc import Sequence
from html import escape

import numpy as np
import polars as pl

from storage.read.pictures.thumbnails import thumbnail_png
from storage.recipe import Recipe

STRIP = 6  # spectrograms shown


def store_html(
    url: str, recordings: pl.DataFrame, recipe: Recipe, slices: Sequence[tuple[str, np.ndarray]]
) -> str:
    """HTML of a store: `slices` are titles and cells [M, T] of the slices to show."""
    hours = float(recordings["duration_s"].sum() or 0) / 3600
    num_labels = recordings["primary_label"].n_unique() if len(recordings) else 0
    lines = {
        "store": url,
        "recordings": f"{len(recordings):,} of {num_labels:,} labels, {hours:,.2f} h",
        "slices": f"{int(recordings['num_slices'].sum()):,} of {recipe.slice_s:g} s, every "
        f"{recipe.slice_step_s:g} s, {recipe.n_mels} bands x {recipe.num_frames} frames, "
        f"{recipe.encoding}",
        "sound": f"{recipe.sample_rate_hz:,} Hz; bands from {recipe.fmin_hz:g} to "
        f"{recipe.fmax_hz:g} Hz; {recipe.top_db:g} dB below the maximum of each slice",
    }
    cells = "".join(
        f'<tr><th style="text-align:left">{name}</th>'
        f'<td style="text-align:left">{escape(text)}</td></tr>'
        for name, text in lines.items()
    )
    return f"<table>{cells}</table><div>{''.join(_figure(*one) for one in slices)}</div>"


def _figure(title: str, cells_MT: np.ndarray) -> str:
    image = base64.b64encode(thumbnail_png(cells_MT)).decode()
    return (
        '<figure style="display:inline-block;margin:4px">'
        f'<img src="data:image/png;base64,{image}" width="156" height="64" '
        f'alt="spectrogram of {escape(title)}">'
        f"<figcaption>{escape(title)}</figcaption></figure>"
    )
