"""Lightning's side of the data of one fold: its readers, and their place in a checkpoint."""

from typing import Any

import pytorch_lightning as pl

from datasets.loading.quarantine import BadSlice
from datasets.loading.reader import BatchReader
from storage.errors import ConfigError
from training.fold_data import FoldData
from training.runtime.ranks import first_rank_logger, gather_lists

logger = first_rank_logger(__name__)


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
        self._check_reviews()
        reader = self._data.train_reader(accumulation=self._accumulation, **self._place())
        if self._resume_from:
            reader.load_state_dict(self._resume_from)
            self._resume_from = {}
        self._train_reader = self._keep(reader, "training", self._num_epochs)
        return reader

    def val_dataloader(self) -> BatchReader:
        """The reader of this rank's share of the held-out slices, or of a sample of them."""
        reader = self._data.val_reader(**self._place(), sampled=True)
        passes = -(-self._num_epochs // self._data.config.trainer.validate_every)
        return self._keep(reader, "validation", passes)

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

    def _check_reviews(self) -> None:
        """Raises ConfigError where ranks have read other verdicts, as people add some meanwhile."""
        if not any(spec.reviews for spec in self._data.config.sources.values()):
            return
        if len(set(gather_lists([self._data.reviews]))) > 1:
            raise ConfigError(
                "verdicts were added to a folder of reviews while the ranks started: start again, "
                "or give a file that tools.reviews --parquet has written"
            )

    def _place(self) -> dict[str, int]:
        if self.trainer is None:
            raise ValueError("the readers are made once the module is attached to a trainer")
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def _keep(self, reader: BatchReader, purpose: str, passes: int) -> BatchReader:
        decided = reader.expect_epochs(passes)
        if decided:
            logger.info(f"reading for {purpose}: {decided}")
        self._readers.append(reader)
        return reader
