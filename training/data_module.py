"""The data of one fold: a reader that trains on the others, and one that scores on this one."""

from dataclasses import dataclass

import numpy as np
import polars
import pytorch_lightning as pl

from datasets.epoch_plan import EpochPlan, EpochPlanner, SamplingConfig, plan_all
from datasets.reader import BatchReader, LoaderConfig
from datasets.slice_source import SliceSource


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldData:
    """What is read for one fold. `targets` float32 [all recordings of the source, C]."""

    source: SliceSource
    train_recordings: polars.DataFrame
    held_out_recordings: polars.DataFrame
    targets: np.ndarray
    sampling: SamplingConfig
    train_loader: LoaderConfig
    val_loader: LoaderConfig
    seed: int

    def planner(self) -> EpochPlanner:
        """The plans of all training epochs."""
        needs_index = self.sampling.slice_choice == "energy"
        return EpochPlanner(
            self.train_recordings,
            self.sampling,
            seed=self.seed,
            slice_index=self.source.slice_index() if needs_index else None,
        )

    def train_reader(self, *, accumulation: int, rank: int = 0, world_size: int = 1) -> BatchReader:
        """Balanced draws of the training recordings, shuffled, in whole effective batches."""
        return BatchReader(
            self.source,
            self.planner(),
            self.train_loader,
            targets=self.targets,
            train=True,
            rank=rank,
            world_size=world_size,
            accumulation=accumulation,
        )

    def val_reader(self, *, rank: int = 0, world_size: int = 1) -> BatchReader:
        """Every slice of the held-out recordings once, in order, with targets."""
        plan = plan_all(self.held_out_recordings)

        def planner(_: int) -> EpochPlan:
            return plan

        return BatchReader(
            self.source,
            planner,
            self.val_loader,
            targets=self.targets,
            train=False,
            rank=rank,
            world_size=world_size,
        )


class FoldDataModule(pl.LightningDataModule):
    """Hands the readers of a fold to Lightning, each rank its share."""

    def __init__(self, data: FoldData, *, accumulation: int) -> None:
        super().__init__()
        self._data = data
        self._accumulation = accumulation
        self._readers: list[BatchReader] = []

    def train_dataloader(self) -> BatchReader:
        """The reader of this rank's training batches."""
        return self._keep(self._data.train_reader(accumulation=self._accumulation, **self._place()))

    def val_dataloader(self) -> BatchReader:
        """The reader of this rank's share of the held-out slices."""
        return self._keep(self._data.val_reader(**self._place()))

    def teardown(self, stage: str) -> None:
        """Ends what the readers still have under way."""
        for reader in self._readers:
            reader.close()
        self._readers.clear()

    def _place(self) -> dict[str, int]:
        if self.trainer is None:
            raise ValueError("the readers are made once the module is attached to a trainer")
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def _keep(self, reader: BatchReader) -> BatchReader:
        self._readers.append(reader)
        return reader
