"""The data of one fold: a reader that trains on the others, and one that scores on this one.

Plans need no torch, which takes seconds to import; the readers do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from datasets.augment.host_images import ImageTransforms
from datasets.augment.mix import POWER
from datasets.chunks import Chunks
from datasets.levels import Levels, level_weights
from datasets.loading.config import LoaderConfig
from datasets.sampling.candidates import needs_slice_index, slice_columns
from datasets.sampling.epoch_plan import EpochPlan, EpochPlanner
from datasets.sampling.facts import SliceFacts, find_facts
from datasets.sampling.held_out import plan_evenly
from datasets.slice_source import SliceSource, find_recordings, row_bounds
from datasets.sources.background import BackgroundPlan
from datasets.sources.mix import source_draws, source_weights
from datasets.sources.teacher import Teacher
from datasets.targets import Targets
from training.config import TrainingConfig

if TYPE_CHECKING:
    from datasets.loading.reader import BatchReader


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldData:
    """Sources and settings of one fold; `train_loader` counts instead of the config's.

    `targets` are of all recordings of the source. `eligible` int64 are the rows to learn from, if
    not all, `names` the classes, `reviews` the digest of verdicts; `background`, `levels`,
    `transform` and `teacher`, which are for training alone, as in `BatchReader`. `pool_levels`
    where slices are weighted by them in the mean of their recording.
    """

    source: SliceSource
    config: TrainingConfig
    train_loader: LoaderConfig
    train_recordings: pl.DataFrame
    held_out_recordings: pl.DataFrame
    targets: Targets
    eligible: np.ndarray | None = None
    names: tuple[str, ...] = ()
    reviews: str = ""
    background: BackgroundPlan | None = None
    transform: ImageTransforms | None = None
    levels: Levels | None = None
    pool_levels: Levels | None = None
    teacher: Teacher | None = None

    @property
    def chunks(self) -> Chunks:
        """The slices of a sample."""
        return Chunks.of(self.config.chunk, self.source.recipe)

    def planner(self) -> EpochPlanner:
        """The plans of all training epochs."""
        sampling = self.config.sampling
        index = None
        if needs_slice_index(sampling, self.train_recordings):
            index = self.source.slice_index(slice_columns(sampling, self.train_recordings))
        return EpochPlanner(
            self.train_recordings,
            sampling,
            seed=self.config.seed,
            slice_index=index,
            source_weights=source_weights(self.config.sources),
            eligible=self.eligible,
            facts=self._facts(),
        )

    def _facts(self) -> SliceFacts:
        """Targets and voice of the slices to learn from, as far as sampling depends on them."""
        first_row = self.source.recordings()["first_row"].to_numpy()
        facts = find_facts(
            self.config.sampling,
            self.train_recordings,
            source_draws(self.config.sources),
            self.targets,
            self.names,
            recording_no=np.searchsorted(first_row, self.train_recordings["first_row"].to_numpy()),
            eligible=self.eligible,
        )
        return replace(facts, reviews=self.reviews)

    def train_reader(self, *, accumulation: int, rank: int = 0, world_size: int = 1) -> BatchReader:
        """Balanced draws of the training recordings, shuffled, in whole effective batches."""
        from datasets.loading.reader import BatchReader

        return BatchReader(
            self.source,
            self.planner(),
            self.train_loader,
            targets=self.targets,
            train=True,
            background=self.background,
            transform=self.transform,
            chunks=self.chunks,
            levels=self.levels,
            teacher=self.teacher,
            rank=rank,
            world_size=world_size,
            accumulation=accumulation,
        )

    def drawn(self, epochs: int) -> tuple[EpochPlan, np.ndarray]:
        """Each sample that the first epochs draw, once, by row; int64 [n], how often they do."""
        planner = self.planner()
        plans = [planner(epoch) for epoch in range(epochs)]
        rows, first, counts = np.unique(
            np.concatenate([plan.rows for plan in plans]), return_index=True, return_counts=True
        )
        planned_no = np.concatenate([plan.planned_no for plan in plans])[first]
        once = replace(
            plans[0], rows=rows, planned_no=planned_no, partner_rows=None, partner_pool=None
        )
        return once, counts

    def held_out_plan(self, most: int = 0) -> EpochPlan:
        """At most so many slices of each held-out recording; all with 0."""
        return plan_evenly(self.held_out_recordings, most)

    def val_reader(
        self, *, rank: int = 0, world_size: int = 1, sampled: bool = False
    ) -> BatchReader:
        """Every slice of the held-out recordings once, in order, with the targets of its labels.

        `sampled`: at most `val_loader.max_slices_per_recording` of each, as during training.
        """
        most = self.config.val_loader.max_slices_per_recording if sampled else 0
        return self.stored_reader(
            self.held_out_plan(most),
            self.config.val_loader,
            self.targets.hard,
            rank=rank,
            world_size=world_size,
        )

    def stored_reader(
        self,
        plan: EpochPlan,
        loader: LoaderConfig,
        targets: Targets | np.ndarray,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> BatchReader:
        """The samples of a plan once, in order, as they are stored, with targets."""
        from datasets.loading.reader import BatchReader

        return BatchReader(
            self.source,
            lambda _: plan,
            loader,
            targets=targets,
            train=False,
            chunks=self.chunks,
            levels=self.levels if self.chunks.count > 1 else None,
            rank=rank,
            world_size=world_size,
        )

    def pool_weights(self, rows: np.ndarray) -> np.ndarray | None:
        """Weights of held-out samples in the mean of their recording; None: all alike.

        int64 [N] -> float64 [N]. The level of a chunk is that of its loudest slice.
        """
        if self.pool_levels is None:
            return None
        first_row, end_row = row_bounds(self.held_out_recordings)
        number, _ = find_recordings(rows, first_row, end_row)
        rows_NK, _ = self.chunks.rows(rows, first_row[number], end_row[number])
        level = self.pool_levels.max_db(rows_NK).max(axis=1)
        return level_weights(level, number, self.config.trainer.pool_scale_db)


def needs_levels(config: TrainingConfig) -> bool:
    """True where slices are joined, or sounds added at their true levels."""
    return bool(
        config.chunk.length_s or config.sampling.inject or config.augment.mixup.domain == POWER
    )


def num_batches(data: FoldData) -> int:
    """Batches of an epoch of training, about: a plan may leave out what fills no step."""
    return len(data.planner()(0)) // data.train_loader.batch_size
