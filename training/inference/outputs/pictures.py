"""Pictures of recordings: the spectrogram, a minute a row, with the detections over it.

    write_detection_picture(Path("dawn.ogg"), detections, recipe, Path("dawn.png"))

Levels are relative to the loudest cell of the recording. Costs about 3 s for three minutes.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from storage.audio.decode import Decoder
from storage.audio.filterbank import mel_filterbank
from storage.audio.mel import MelTransform
from storage.audio.mel_axis import frequency_ticks
from storage.audio.slicing import cut_slices
from storage.errors import AudioError, StoreError
from storage.output_files import output_file
from storage.recipe import Recipe
from training.inference.outputs.output import Output
from training.inference.predictions import WindowPredictions

FOLDER, ENDING = "pictures", ".png"
DPI = 120
ROW_S, MAX_ROWS = 60.0, 10
WIDTH, ROW_HEIGHT = 13.0, 2.3  # inches
PIECE_S = 2.0  # that goes through the transform at a time
LANES, LANE = 3, 0.1  # lines of names above a row, each of this share of its height
LETTER_S = 0.3  # width of a letter, on the time axis
COLOURS = colormaps["tab10"].colors  # type: ignore[attr-defined]  # of this map, a list


class Pictures(Output):
    """Draws each recording in which something was detected."""

    def add(self, windows: WindowPredictions, detections: pl.DataFrame) -> None:
        recording, recipe = windows.recording, self.job.run.recipe
        if detections.is_empty() or recipe is None:
            return
        target = self.job.recording_file(FOLDER, recording, ENDING)
        try:
            with self.job.audio.open(recording.path) as file, output_file(target) as unfinished:
                title = recording.recording_id
                write_detection_picture(file, detections, recipe, unfinished, title=title)
        except (AudioError, StoreError) as error:
            self.notes.append(f"{recording.recording_id} has no picture: {error}")


def write_detection_picture(
    recording: Path, detections: pl.DataFrame, recipe: Recipe, target: Path, *, title: str = ""
) -> None:
    """Writes a PNG of the first ten minutes of a recording.

    `detections` have start_s, end_s, common_name and score. Raises AudioError where the recording
    cannot be read.
    """
    cells_MT = _spectrogram_db(recording, recipe)
    frame_s = recipe.hop / recipe.sample_rate_hz
    length_s = cells_MT.shape[1] * frame_s
    num_rows = max(1, math.ceil(length_s / ROW_S))
    row_s = min(ROW_S, max(length_s, 1.0))
    figure = Figure((WIDTH, ROW_HEIGHT * num_rows + 0.5), dpi=DPI, layout="tight")
    for row in range(num_rows):
        axes = figure.add_subplot(num_rows, 1, row + 1)
        begin_s = row * ROW_S
        axes.imshow(
            cells_MT,
            origin="lower",
            aspect="auto",
            extent=(0, length_s, -0.5, recipe.n_mels - 0.5),
            cmap="gray_r",
            vmin=-recipe.top_db,
            vmax=0,
        )
        _draw_detections(axes, detections, begin_s, begin_s + row_s, recipe.n_mels)
        ticks = frequency_ticks(recipe)
        axes.set_yticks(list(ticks.values()), [f"{hz / 1000:g}" for hz in ticks])
        axes.set_ylabel("kHz", fontsize=8)
        axes.tick_params(labelsize=7, length=2)
        axes.set_xlim(begin_s, begin_s + row_s)
    axes.set_xlabel("time (s)", fontsize=8)
    figure.axes[0].set_title(title or recording.name, fontsize=9, parse_math=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # a box stands for a letter that matplotlib's font lacks
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        figure.savefig(target, format="png")


def _spectrogram_db(path: Path, recipe: Recipe) -> np.ndarray:
    """Levels, float32 [mel bands, frames], in dB below the loudest, of the first minutes."""
    piece_s = max(PIECE_S, recipe.n_fft / recipe.sample_rate_hz)
    hops = max(1, round(piece_s * recipe.sample_rate_hz / recipe.hop))
    piece_s = hops * recipe.hop / recipe.sample_rate_hz
    pieces = replace(recipe, slice_s=piece_s, slice_step_s=piece_s, tail_min_s=0, padding="zeros")
    transform = MelTransform(pieces, mel_filterbank(pieces))
    powers = [transform.power(samples).numpy()[:, :hops] for samples in _first(path, pieces)]
    power_MT = np.concatenate(powers, axis=1)
    level_db = 10 * np.log10(np.maximum(power_MT, recipe.amin))
    return np.asarray(level_db - level_db.max(), np.float32)


def _first(path: Path, pieces: Recipe) -> Iterator[np.ndarray]:
    most = round(ROW_S * MAX_ROWS / pieces.slice_s)
    for number, samples in enumerate(cut_slices(Decoder(path, pieces.sample_rate_hz), pieces)):
        if number == most:
            return
        yield samples


def _draw_detections(
    axes: Axes, detections: pl.DataFrame, begin_s: float, end_s: float, num_bands: int
) -> None:
    """Shades the detections of a row; their names stand above the spectrogram, one a lane."""
    names = detections["common_name"].unique(maintain_order=True).to_list()
    inside = detections.filter((pl.col("start_s") < end_s) & (pl.col("end_s") > begin_s))
    free_s = [begin_s] * LANES  # from when on a lane is free
    for start, end, name, score in inside.select(
        "start_s", "end_s", "common_name", "score"
    ).iter_rows():
        colour, text = COLOURS[names.index(name) % len(COLOURS)], f"{name} {score:.2f}"
        left, right = max(start, begin_s), min(end, end_s)
        text_s = min(left, end_s - LETTER_S * len(text))
        lane = next((n for n in range(LANES) if free_s[n] <= text_s), int(np.argmin(free_s)))
        free_s[lane] = max(right, text_s + LETTER_S * len(text))
        height = num_bands * (1 + (lane + 0.2) * LANE)
        axes.axvspan(left, right, ymax=1 / (1 + LANES * LANE), color=colour, alpha=0.2, linewidth=0)
        axes.plot([left, right], [height, height], color=colour, linewidth=2)
        axes.text(
            max(text_s, begin_s),
            height,
            text,
            fontsize=7,
            color=colour,
            weight="bold",
            va="bottom",
            clip_on=True,
            parse_math=False,
        )
    axes.set_ylim(-0.5, num_bands * (1 + LANES * LANE))
