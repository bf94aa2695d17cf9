"""Chunks: samples longer than a slice, of neighbouring slices of a recording joined in time.

    chunks = Chunks.of(ChunkConfig(length_s=10), recipe)    # K = 2 slices
    rows_NK, present_NK = chunks.rows(rows, first_row, end_row)
    unit_BMT = join_levels(to_unit(cells_BMT), levels_BK, recipe.top_db)

The chunk of a row begins there, or earlier where it would not fit into the recording otherwise; so
every row has exactly one chunk, and the last rows of a recording share theirs. A recording shorter
than a chunk gives the slices that it has, and silence as `chunk.padding` says. The last slice of a
recording is taken as it is stored: where the recipe's padding has filled it up, so it is here.

Cells of slice k, relative to its own maximum L_k (dB), become relative to the chunk's maximum:
they move by (L_k - max L) / top_db, and end at 0. Nothing is lost but what is more than `top_db`
below the chunk's maximum. Measured against a slice of 10 s computed at once: docs/training.md.

Shapes: N rows, B samples, K slices of a chunk, M mel bands, T frames of a slice or a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from storage.errors import ConfigError
from storage.options import check_at_least, check_choice, option
from storage.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor  # the config needs none of it, and importing it takes seconds

LEFT, RIGHT, REPEAT = "left", "right", "repeat"
PADDINGS = (LEFT, RIGHT, REPEAT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkConfig:
    """Config of the length of samples."""

    length_s: float = option(
        0.0, "length of a sample, s: so many neighbouring slices joined, as 10; 0: one slice"
    )
    padding: str = option(
        LEFT, "of recordings shorter than that: silence left or right, or repeat their slices"
    )

    def __post_init__(self) -> None:
        check_at_least(self, "chunk", 0, "length_s")
        check_choice(self, "chunk", "padding", PADDINGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """Chunks of one recipe: `count` slices, each `step` rows after the one before."""

    count: int = 1
    step: int = 1
    padding: str = LEFT

    @classmethod
    def of(cls, config: ChunkConfig, recipe: Recipe) -> Chunks:
        """Returns the chunks of a config; ConfigError where slices cannot be joined to them."""
        if not config.length_s:
            return cls()
        count = config.length_s * recipe.sample_rate_hz / recipe.slice_samples
        if count < 1 or abs(count - round(count)) > 1e-6:
            raise ConfigError(
                f"chunk.length_s={config.length_s:g} is no whole number of slices of "
                f"{recipe.slice_s:g} s (recipe.slice_s): give a multiple of it"
            )
        step, rest = divmod(recipe.slice_samples, recipe.step_samples)
        if rest and round(count) > 1:
            raise ConfigError(
                f"chunk.length_s={config.length_s:g} needs slices that follow one another without "
                f"a gap, but recipe.slice_s={recipe.slice_s:g} is no multiple of recipe."
                f"slice_step_s={recipe.slice_step_s:g}: build a store with a step of "
                f"{recipe.slice_s:g} or {recipe.slice_s / 2:g} s"
            )
        return cls(count=round(count), step=max(1, step), padding=config.padding)

    def fitted(self, recipe: Recipe) -> Chunks:
        """Returns chunks of as many slices for a store that may have another step between them.

        Raises ConfigError where its slices cannot be joined so.
        """
        length_s = self.count * recipe.slice_s if self.count > 1 else 0.0
        return Chunks.of(ChunkConfig(length_s=length_s, padding=self.padding), recipe)

    def shape(self, recipe: Recipe) -> tuple[int, int]:
        """Returns (mel bands, frames) of a chunk."""
        return recipe.n_mels, self.count * recipe.num_frames

    def rows(
        self, rows: np.ndarray, first_row: np.ndarray, end_row: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the slices of each row's chunk, int64 [N, K], and those that exist, bool [N, K].

        `first_row` and `end_row`, int64 [N], are the bounds of each row's recording; a place
        without a slice has the row of one that is there.
        """
        last_N = end_row - first_row - 1
        have_N = np.minimum(self.count, last_N // self.step + 1)
        begin_N = np.minimum(rows - first_row, last_N - (have_N - 1) * self.step)
        slice_NK = np.arange(self.count)[None, :].repeat(len(rows), axis=0)
        if self.padding == LEFT:
            slice_NK = slice_NK - (self.count - have_N)[:, None]
        present_NK = (slice_NK >= 0) & (slice_NK < have_N[:, None])
        if self.padding == REPEAT:
            slice_NK = slice_NK % have_N[:, None]
            present_NK[:] = True
        slice_NK = slice_NK.clip(0, (have_N - 1)[:, None])
        return (first_row + begin_N)[:, None] + slice_NK * self.step, present_NK

    def slots(self, have: int) -> list[int | None]:
        """Returns, of each place of a chunk, which of the `have` slices is there; None: silence."""
        rows_NK, present_NK = self.rows(
            np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([(have - 1) * self.step + 1])
        )
        places = (rows_NK[0] // self.step).tolist()
        return [place if here else None for place, here in zip(places, present_NK[0], strict=True)]


def chunk_shape(config: ChunkConfig, recipe: Recipe) -> tuple[int, int]:
    """Returns (mel bands, frames) of the samples of a training."""
    return Chunks.of(config, recipe).shape(recipe)


def join_levels(unit_BMT: Tensor, levels_BK: Tensor, top_db: float) -> Tensor:
    """Brings joined slices to the level of the loudest of each sample, float [B, M, T] in [0, 1].

    `levels_BK` are the levels of the slices, dB; -inf where there is none.
    """
    if levels_BK.shape[1] == 1:
        return unit_BMT
    below_BK = (levels_BK - levels_BK.amax(1, keepdim=True)) / top_db
    num, bands, _ = unit_BMT.shape
    slices_BMKT = unit_BMT.reshape(num, bands, levels_BK.shape[1], -1)
    return (slices_BMKT + below_BK[:, None, :, None]).clamp_(0, 1).view_as(unit_BMT)
