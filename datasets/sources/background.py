"""Background slices of samples: rows of a background source, drawn for each position.

    plan = BackgroundPlan(open_store("data/noise"), seed=7)
    plan.rows(epoch, position)  # rows of the background source

A pure function of (seed, epoch, position) and of the source's recordings: each recording is equally
likely, and within it each slice, so one long recording does not dominate.
"""

from dataclasses import dataclass

import numpy as np

from datasets.randomness import random_bits
from datasets.slice_source import SliceSource, select_recordings
from storage.errors import ConfigError
from storage.options import option


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundConfig:
    """Config of the background source; `augment.background` configures the mixing."""

    store: str = option("", "folder of a store of backgrounds")
    shards: str = option("", "folder of tar shards of backgrounds")
    where: str | None = option(None, "SQL condition on its recordings")

    def __post_init__(self) -> None:
        if self.store and self.shards:
            raise ConfigError("background.store and background.shards: give one of the two")

    @property
    def given(self) -> bool:
        """True where a background source is configured."""
        return bool(self.store or self.shards)


class BackgroundPlan:
    """Draws the background row of each position of each epoch."""

    def __init__(self, source: SliceSource, *, seed: int, where: str | None = None) -> None:
        recordings = select_recordings(source.recordings(), where=where)
        self.source = source
        self._seed = seed
        self._first_row = recordings["first_row"].to_numpy()
        self._num_slices = recordings["num_slices"].to_numpy().astype(np.uint64)

    def rows(self, epoch: int, position: np.ndarray) -> np.ndarray:
        """Returns the row of `source` for each position (int64 [n]), int64 [n]."""
        keys = position.astype(np.uint64)
        bits = [
            random_bits(keys, seed=self._seed, epoch=epoch, purpose="background", counter=number)
            for number in (0, 1)
        ]
        recording_no = (bits[0] % np.uint64(len(self._first_row))).astype(np.int64)
        chosen = (bits[1] % self._num_slices[recording_no]).astype(np.int64)
        return np.asarray(self._first_row[recording_no] + chosen)
