"""Questions of similarity: the slices that neighbours are asked for, as vectors.

    question = ask(config, collection)                 # a row or a recording of the collection
    question = ask_file(Path("call.wav"), embedder, collection)

Shapes: Q slices of a question, E numbers of an embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from storage.audio.channels import MEAN
from storage.audio.filterbank import mel_filterbank
from storage.build.slice_maker import AudioSlices
from storage.errors import AudioError, ConfigError
from storage.recipe import FOREIGN, Recipe
from training.inference.embeddings.embedders import Embedder
from training.inference.embeddings.slice_audio import read_windows
from training.inference.embeddings.table import EmbeddingTable
from training.inference.similarity.config import NONE, RECORDING, SimilarConfig
from training.inference.similarity.space import Space

BATCH = 32  # slices of a file that are embedded together


@dataclass(frozen=True, kw_only=True, eq=False)
class Collection:
    """Embedded slices of a store. `table.frame` has a line for each; `recordings` are its own."""

    table: EmbeddingTable
    recordings: pl.DataFrame

    @cached_property
    def space(self) -> Space:
        """The space in which its slices are compared."""
        return Space.of(self.table)

    @cached_property
    def unit_NE(self) -> np.ndarray:
        """Its slices in that space, float32 [N, E]."""
        return self.space.units(self.table.embeddings_NE)

    def values(self, column: str) -> pl.Series:
        """A column of the recordings, for each slice; ConfigError where there is none."""
        if column not in self.recordings.columns:
            raise ConfigError(
                f"there is no column {column!r} in the recordings; there are "
                f"{', '.join(self.recordings.columns)}"
            )
        if column == "recording_id":
            return self.table.frame[column]
        known = self.recordings.select("recording_id", column)
        return self.table.frame.join(known, on="recording_id", how="left", maintain_order="left")[
            column
        ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """Slices of a question: vectors float32 [Q, E], starts in s [Q], a mask of them, bool [N]."""

    vectors_QE: np.ndarray
    start_s: np.ndarray
    own_N: np.ndarray


def ask(config: SimilarConfig, collection: Collection, start_s: np.ndarray) -> Question:
    """The question of a row or recording; `start_s` float64 [N] of the collection's slices."""
    frame = collection.table.frame
    if config.row is not None:
        own, what = frame["row"] == config.row, f"row {config.row}"
    else:
        own, what = frame["recording_id"] == config.recording, f"recording {config.recording!r}"
    own_N = own.to_numpy()
    if not own_N.any():
        raise ConfigError(
            f"there is no {what} among {len(frame):,} slices of {len(collection.recordings):,} "
            f"recordings, such as {frame['recording_id'][0]!r} with row {frame['row'][0]}"
        )
    return Question(vectors_QE=collection.unit_NE[own_N], start_s=start_s[own_N], own_N=own_N)


def ask_file(path: Path, embedder: Embedder, collection: Collection) -> Question:
    """The question of an audio file, cut into slices by the recipe of the store.

    Raises ConfigError where it cannot be decoded.
    """
    if not path.is_file():
        raise ConfigError(f"similar.file={path} does not exist")
    recipe = collection.table.about.recipe
    if recipe.origin == FOREIGN:
        raise ConfigError("the store has imported slices, whose audio is not known: give a row")
    try:
        embeddings_QE = _embed_file(path, embedder, recipe)
    except AudioError as error:
        raise ConfigError(f"similar.file={path}: {error}") from error
    return Question(
        vectors_QE=collection.space.units(embeddings_QE),
        start_s=np.arange(len(embeddings_QE)) * recipe.step_samples / recipe.sample_rate_hz,
        own_N=np.zeros(len(collection.table.frame), bool),
    )


def allowed_slices(question: Question, collection: Collection, leave_out: str) -> np.ndarray:
    """The slices that count as neighbours, bool [N].

    Never those of the question itself; with RECORDING or a column, none that shares its value.
    """
    allowed_N = ~question.own_N
    if leave_out == NONE or not question.own_N.any():
        return allowed_N
    values = collection.values("recording_id" if leave_out == RECORDING else leave_out)
    own = values.filter(pl.Series(question.own_N)).drop_nulls().unique()
    return np.asarray(allowed_N & ~values.is_in(own.implode()).fill_null(False).to_numpy())


def embed_cells(cells: Sequence[np.ndarray], embedder: Embedder) -> np.ndarray:
    """Embeddings of slices, each [M, T], by a model that takes such, float32 [Q, E]."""
    parts = [
        embedder.embed(np.stack(cells[start : start + BATCH]))
        for start in range(0, len(cells), BATCH)
    ]
    return np.concatenate(parts)


def _embed_file(path: Path, embedder: Embedder, recipe: Recipe) -> np.ndarray:
    """Embeddings of the slices of a file, float32 [Q, E]."""
    _, slices = AudioSlices(recipe, mel_filterbank(recipe)).open(path)
    cells = [cells_MT for cells_MT, _ in slices]
    if embedder.takes is None:
        return embed_cells(cells, embedder)
    starts_s = [
        number * recipe.step_samples / recipe.sample_rate_hz for number in range(len(cells))
    ]
    windows = read_windows(path, MEAN, embedder.takes, starts_s, recipe.slice_s)
    return np.stack([embedder.embed(one).mean(axis=0) for one in windows])
