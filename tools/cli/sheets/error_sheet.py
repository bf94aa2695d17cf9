"""Spectrograms of the worst errors of an evaluation, from the recordings' files."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from datasets.annotations import match_files
from storage.audio.decode import Decoder
from storage.audio.filterbank import mel_filterbank
from storage.audio.mel import MelTransform
from storage.encoding import encode
from storage.errors import AudioError, ConfigError, StoreError
from storage.output_files import output_file
from storage.recipe import Recipe
from storage.source.listing import list_folder
from tools.cli.sheets.contact_sheet import write_contact_sheet
from training.inference.results import Results


def recipe_of(predictions: Sequence[str]) -> Recipe:
    """The recipe of the model that made the predictions, by predict.json next to the first table.

    Tables of other programs, and of out-of-fold predictions, have none: the default one.
    """
    first = Path(predictions[0])
    try:
        about = Results(first if first.is_dir() else first.parent).describe()["about"]
        return Recipe.from_dict(about["recipe"])
    except (StoreError, ConfigError, KeyError, TypeError):
        return Recipe()


def draw_errors(
    errors: pl.DataFrame, audio: Path, target: Path, names: Mapping[str, str], recipe: Recipe
) -> str:
    """Draws the spectrograms of errors whose recordings are found; returns a line on it.

    `recipe`: of the model; the length of the windows is that of the errors.
    """
    if not len(errors) or errors["start_s"].null_count():
        return "errors.png: there is no error with a time"
    if not audio.is_dir():
        raise ConfigError(f"evaluate.audio={audio}: there is no such folder")
    files = match_files(list_folder(audio).audio, errors["recording_id"].unique().to_list())
    path_of = {recording_id: audio / file for file, recording_id in files.items()}
    length_s = float((errors["end_s"] - errors["start_s"]).to_numpy().max())
    recipe = replace(recipe, slice_s=length_s)
    transform = MelTransform(recipe, mel_filterbank(recipe))
    cells, titles = [], []
    for error in errors.iter_rows(named=True):
        samples = _samples(path_of.get(error["recording_id"]), error["start_s"], recipe)
        if samples is None:
            continue
        db_MT, _ = transform.decibels(transform.power(samples))
        cells.append(encode(db_MT, top_db=recipe.top_db, dtype=recipe.dtype))
        stem = error["recording_id"].rpartition("/")[2]
        titles.append(
            f"{error['kind']}: {names[error['label']]} {error['score']:.2f}\n"
            f"{stem} {error['start_s']:.1f} s"
        )
    if not cells:
        return f"errors.png: none of the recordings can be read in {audio}"
    with output_file(target) as file:
        write_contact_sheet(np.stack(cells), recipe, titles, file)
    return f"errors.png: {len(cells)} of {len(errors)} errors, whose files can be read"


def _samples(path: Path | None, start_s: float, recipe: Recipe) -> np.ndarray | None:
    """The samples of a window, float32, repeated to fill it; None where there are none."""
    if path is None:
        return None
    begin = round(start_s * recipe.sample_rate_hz)
    end, first, parts = begin + recipe.slice_samples, 0, []
    try:
        for block in Decoder(path, recipe.sample_rate_hz):
            parts.append(block[max(0, begin - first) : max(0, end - first)].copy())  # a view
            first += len(block)
            if first >= end:
                break
    except AudioError:  # what came before may do
        pass
    joined = np.concatenate(parts) if parts else np.empty(0, np.float32)
    return np.resize(joined, recipe.slice_samples) if len(joined) else None
