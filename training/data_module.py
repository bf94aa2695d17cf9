"""The data of one fold: a reader that trains on the others, and one that scores on this one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars
import pytorch_lightning as pl

from datasets.augment.host_images import ImageTransforms
from datasets.loading.quarantine import BadSlice
from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import EpochPlanner, needs_slice_index, plan_all
from datasets.slice_source import SliceSource
from datasets.sources.background import BackgroundPlan
from datasets.sources.mix import source_weights
from datasets.targets import Targets
from training.config import TrainingConfig
from training.runtime.ranks import first_rank_logger

logger = first_rank_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldData:
    """Sources and settings of one fold; `train_loader` counts instead of the config's.

    `targets` are of all recordings of the source. `eligible` int64 are the rows to learn from, if
    not all; `background` and `transform`, which is for training alone, as in `BatchReader`.
    """

    source: SliceSource
    config: TrainingConfig
    train_loader: LoaderConfig
    train_recordings: polars.DataFrame
    held_out_recordings: polars.DataFrame
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

    def val_reader(self, *, rank: int = 0, world_size: int = 1) -> BatchReader:
        """Every slice of the held-out recordings once, in order, with the targets of its labels."""
        plan = plan_all(self.held_out_recordings)
        return BatchReader(
            self.source,
            lambda _: plan,
            self.config.val_loader,
            targets=self.targets.hard,
            train=False,
            rank=rank,
            world_size=world_size,
        )


class FoldDataModule(pl.LightningDataModule):
    """Hands the readers of a fold to Lightning, each rank its share, and keeps their place.

    Lightning keeps the state of a loader too, but forgets to load it where `configure_optimizers`
    asks for the number of steps, as a schedule has to.
    """

    def __init__(self, data: FoldData, *, accumulation: int, num_epochs: int = 1) -> None:
        super().__init__()
        self._num_epochs = num_epochs
        self._data = data
        self._accumulation = accumulation
        self._readers: list[BatchReader] = []
        self._train_reader: BatchReader | None = None
        self._resume_from: dict[str, Any] = {}
        self.bad: list[BadSlice] = []  # what could not be read, once the module is torn down

    def train_dataloader(self) -> BatchReader:
        """The reader of this rank's training batches."""
        reader = self._data.train_reader(accumulation=self._accumulation, **self._place())
        if self._resume_from:
            reader.load_state_dict(self._resume_from)
            self._resume_from = {}
        self._train_reader = self._keep(reader, "training")
        return reader

    def val_dataloader(self) -> BatchReader:
        """The reader of this rank's share of the held-out slices."""
        return self._keep(self._data.val_reader(**self._place()), "validation")

    def state_dict(self) -> dict[str, Any]:
        """Position of the training, for the checkpoint."""
        return {} if self._train_reader is None else self._train_reader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The next training reader goes on from here."""
        self._resume_from = state_dict

    def teardown(self, stage: str) -> None:
        """Ends what the readers still have under way."""
        for reader in self._readers:
            reader.close()
            self.bad += reader.bad
        self._readers.clear()
        self._train_reader = None

    def _place(self) -> dict[str, int]:
        if self.trainer is None:
            raise ValueError("the readers are made once the module is attached to a trainer")
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def _keep(self, reader: BatchReader, purpose: str) -> BatchReader:
        decided = reader.expect_epochs(self._num_epochs)
        if decided:
            logger.info(f"reading for {purpose}: {decided}")
        self._readers.append(reader)
        return reader
