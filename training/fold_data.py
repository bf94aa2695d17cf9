"""The data of one fold: a reader that trains on the others, and one that scores on this one.

Plans need no torch, which takes seconds to import; the readers do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from datasets.augment.host_images import ImageTransforms
from datasets.loading.config import LoaderConfig
from datasets.sampling.epoch_plan import EpochPlan, EpochPlanner, needs_slice_index
from datasets.sampling.held_out import plan_evenly
from datasets.slice_source import SliceSource
from datasets.sources.background import BackgroundPlan
from datasets.sources.mix import source_weights
from datasets.targets import Targets
from training.config import TrainingConfig

if TYPE_CHECKING:
    from datasets.loading.reader import BatchReader


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldData:
    """Sources and settings of one fold; `train_loader` counts instead of the config's.

    `targets` are of all recordings of the source. `eligible` int64 are the rows to learn from, if
    not all; `background` and `transform`, which is for training alone, as in `BatchReader`.
    """

    source: SliceSource
    config: TrainingConfig
    train_loader: LoaderConfig
    train_recordings: pl.DataFrame
    held_out_recordings: pl.DataFrame
    targets: Targets
    eligible: np.ndarray | None = None
    background: BackgroundPlan | None = None
    transform: ImageTransforms | None = None

    def planner(self) -> EpochPlanner:
        """The plans of all training epochs."""
        sampling = self.config.sampling
        needs_index = needs_slice_index(sampling, self.train_recordings)
        return EpochPlanner(
            self.train_recordings,
            sampling,
            seed=self.config.seed,
            slice_index=self.source.slice_index() if needs_index else None,
            source_weights=source_weights(self.config.sources),
            eligible=self.eligible,
        )

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
            rank=rank,
            world_size=world_size,
            accumulation=accumulation,
        )

    def held_out_plan(self, most: int = 0) -> EpochPlan:
        """At most so many slices of each held-out recording; all with 0."""
        return plan_evenly(self.held_out_recordings, most)

    def val_reader(
        self, *, rank: int = 0, world_size: int = 1, sampled: bool = False
    ) -> BatchReader:
        """Every slice of the held-out recordings once, in order, with the targets of its labels.

        `sampled`: at most `val_loader.max_slices_per_recording` of each, as during training.
        """
        from datasets.loading.reader import BatchReader

        most = self.config.val_loader.max_slices_per_recording if sampled else 0
        plan = self.held_out_plan(most)
        return BatchReader(
            self.source,
            lambda _: plan,
            self.config.val_loader,
            targets=self.targets.hard,
            train=False,
            rank=rank,
            world_size=world_size,
        )
