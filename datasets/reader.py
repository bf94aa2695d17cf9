"""Carries out an epoch plan: an ordinary iterable of batches, read ahead in one thread.

    reader = BatchReader(source, planner, LoaderConfig(batch_size=64), targets=targets, train=True)
    for epoch in range(20):
        reader.set_epoch(epoch)
        for batch in reader:
            ...

Plan -> this rank's positions -> rows -> extents -> a reused buffer -> Batch. It works alike on a
store and on tar shards, in a plain loop and as a Lightning dataloader: it has a length, a state,
and `sampler.set_epoch`. Nothing is opened and no thread runs before the first batch is asked for;
leaving the loop, by its end, `break` or an exception, ends the thread and closes the files.
"""

import weakref
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from datasets.batch import Batch
from datasets.buffers import BufferPool
from datasets.epoch_plan import EpochPlan
from datasets.prefetch import prefetch
from datasets.quarantine import BadSlice, CarefulReader
from datasets.rank_share import CUT, KEEP, WRAP, RankShare
from datasets.slice_source import SliceSource
from storage.errors import ConfigError, DamageError
from storage.extents import Extents
from storage.options import option

_SPAN_BATCHES = 64  # batches whose extents are looked up together


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderConfig:
    """How batches are read."""

    batch_size: int = option(16, "samples in one batch of one rank")
    prefetch_batches: int = option(4, "batches read ahead; 0 reads in the caller's thread")
    remainder: str = option("cut", "training: cut or wrap what is no whole effective batch")
    check: bool = option(True, "verify the checksum of every slice")
    max_bad: int = option(0, "unreadable slices to go on without before stopping")

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size={self.batch_size} must be at least 1")
        if self.prefetch_batches < 0 or self.max_bad < 0:
            raise ConfigError("prefetch_batches and max_bad must be at least 0")
        if self.remainder not in (CUT, WRAP):
            raise ConfigError(f"remainder={self.remainder} is neither {CUT} nor {WRAP}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Request:
    """One batch to read: int64 [B] arrays and B extents."""

    position: np.ndarray
    rows: np.ndarray
    recording_no: np.ndarray
    extents: Extents

    def __getitem__(self, take: slice | np.ndarray) -> "_Request":
        return _Request(
            position=self.position[take],
            rows=self.rows[take],
            recording_no=self.recording_no[take],
            extents=self.extents[take],
        )


class BatchReader:
    """The batches of one rank, epoch after epoch.

    `planner` gives the plan of an epoch: an `EpochPlanner`, or a function of the epoch. `targets`
    float32 [recordings, C] by position in `source.recordings()`, or None. With `train` the epoch
    is cut or wrapped to whole effective batches (world_size x batch_size x accumulation), else
    every sample comes exactly once over all ranks. A batch is the caller's to keep.
    """

    batch_sampler = None  # Lightning looks for one wherever there is a sampler

    def __init__(
        self,
        source: SliceSource,
        planner: Callable[[int], EpochPlan],
        config: LoaderConfig,
        *,
        targets: np.ndarray | None,
        train: bool,
        rank: int = 0,
        world_size: int = 1,
        accumulation: int = 1,
    ) -> None:
        self._source = source
        self._planner = planner
        self._config = config
        self._train = train
        recordings = source.recordings()
        self._first_row = recordings["first_row"].to_numpy()
        self._end_row = self._first_row + recordings["num_slices"].to_numpy()
        self._targets = None if targets is None else _checked(targets, source, len(recordings))
        self._epoch = 0
        self._plan = planner(0)
        self._share = RankShare(
            num_samples=len(self._plan),
            batch_size=config.batch_size,
            rank=rank,
            world_size=world_size,
            accumulation=accumulation if train else 1,
            remainder=config.remainder if train else KEEP,
        )
        self._share.check()
        self._delivered = 0  # batches of this rank in the current epoch
        self._resume_at = 0  # where the next iteration begins
        self._running: weakref.WeakSet[Generator[Batch, None, None]] = weakref.WeakSet()
        self.bad: list[BadSlice] = []

    def __len__(self) -> int:
        """Batches in an epoch, wherever a resumed one begins."""
        return self._share.num_batches

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the epoch after `load_state_dict`, else all of it."""
        start, self._resume_at = self._resume_at, 0
        plan = self._current_plan()
        # torch publishes no type for is_initialized
        device = torch.cuda.current_device() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
        batches = prefetch(
            self._read(plan, start, self._epoch, device), self._config.prefetch_batches
        )
        self._running.add(batches)
        self._delivered = start
        try:
            for batch in batches:
                self._delivered += 1
                yield batch
        finally:
            batches.close()

    @property
    def sampler(self) -> "BatchReader":
        """Itself: Lightning calls `dataloader.sampler.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Goes to the beginning of an epoch; the one that it is in keeps its position."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._delivered = self._resume_at = 0

    def state_dict(self) -> dict[str, Any]:
        """Where training stands, in plain values, the same on every rank.

        Counts the samples that were handed out, over all ranks, not those read ahead.
        """
        plan = self._current_plan()
        return {
            "epoch": self._epoch,
            "delivered": self._delivered * self._share.global_batch,
            "effective_batch": self._share.effective_batch,
            "seed": plan.seed,
            "inputs": dict(plan.inputs),
            "digest": plan.digest,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state_dict` stood, perhaps on another number of ranks.

        Raises ConfigError, naming what differs, where the plan or the effective batch is another.
        """
        self._epoch = state["epoch"]
        plan = self._current_plan()
        here = {**plan.inputs, "seed": plan.seed, "effective_batch": self._share.effective_batch}
        there = {
            **state["inputs"],
            "seed": state["seed"],
            "effective_batch": state["effective_batch"],
        }
        _check_equal(here, there)
        if plan.digest != state["digest"]:
            raise ConfigError(
                f"the plan of epoch {plan.epoch} has other rows than when the state was saved "
                "though its inputs are equal: was a slice choice changed?"
            )
        if state["delivered"] % self._share.global_batch:
            raise ConfigError(
                f"the state stands at sample {state['delivered']}, inside a global batch of "
                f"{self._share.global_batch}: resume a checkpoint made at an optimizer step"
            )
        self._delivered = self._resume_at = state["delivered"] // self._share.global_batch

    def close(self) -> None:
        """Ends all iterations that are under way, with their threads and files."""
        for batches in list(self._running):
            batches.close()

    def _current_plan(self) -> EpochPlan:
        if self._train and self._plan.epoch != self._epoch:
            plan = self._planner(self._epoch)
            if len(plan) != self._share.num_samples:
                raise ConfigError(
                    f"the plan of epoch {self._epoch} has {len(plan)} samples where that of "
                    f"epoch 0 has {self._share.num_samples}: all epochs must be equally long"
                )
            self._plan = plan
        return self._plan

    def _read(self, plan: EpochPlan, start: int, epoch: int, device: int | None) -> Iterator[Batch]:
        """Reads the batches from number `start` on; runs in the background thread."""
        config = self._config
        if device is not None:
            torch.cuda.set_device(device)  # a thread begins on device 0
        pool = BufferPool(
            (config.batch_size, *self._source.recipe.slice_shape),
            self._source.recipe.dtype,
            keep=config.prefetch_batches + 3,
            pinned=device is not None,
        )
        number = torch.tensor(epoch)
        with CarefulReader(check=config.check, max_bad=config.max_bad, bad=self.bad) as reader:
            requests = self._requests(plan, start)
            ahead = next(requests, None)
            while ahead is not None:
                request, ahead = ahead, next(requests, None)
                if ahead is not None:
                    reader.will_need(ahead.extents)
                yield self._batch(reader, request, pool, number)

    def _requests(self, plan: EpochPlan, start: int) -> Iterator[_Request]:
        """This rank's batches; the places of many slices are looked up at once."""
        for first in range(start, len(self), _SPAN_BATCHES):
            numbers = range(first, min(first + _SPAN_BATCHES, len(self)))
            bounds = [self._share.bounds(number) for number in numbers]
            position = np.concatenate([np.arange(*edges) for edges in bounds])
            rows = plan.rows[position % len(plan)]
            recording_no = np.searchsorted(self._first_row, rows, side="right") - 1
            if (recording_no < 0).any() or (rows >= self._end_row[recording_no]).any():
                raise ConfigError(f"the plan names rows that {self._source.url} does not have")
            span = _Request(
                position=position,
                rows=rows,
                recording_no=recording_no,
                extents=self._source.extents(rows),
            )
            end = 0
            for low, high in bounds:
                begin, end = end, end + high - low
                yield span[begin:end]

    def _batch(
        self, reader: CarefulReader, request: _Request, pool: BufferPool, epoch: torch.Tensor
    ) -> Batch:
        slices = pool.take(len(request.rows))
        cells = slices.numpy()
        good = reader.read(request.extents, request.rows, cells)
        if not good.all():
            position, take = request.position, self._without_bad(good)
            request = request[take]
            if self._train:
                request = replace(request, position=position)
            cells[: len(take)] = cells[take]
            slices = slices[: len(take)]
        targets = None if self._targets is None else self._targets[request.recording_no]
        return Batch(
            slices=slices,
            targets=None if targets is None else torch.from_numpy(targets),
            rows=torch.from_numpy(request.rows),
            recording_no=torch.from_numpy(request.recording_no),
            position=torch.from_numpy(request.position),
            epoch=epoch,
        )

    def _without_bad(self, good: np.ndarray) -> np.ndarray:
        """Which samples the batch is made of: in training, good ones stand in for the bad."""
        places = np.flatnonzero(good)
        if not len(places):
            raise DamageError(f"none of the {len(good)} slices of a batch can be read")
        if not self._train:
            return places
        take = np.arange(len(good))
        take[~good] = np.resize(places, len(good) - len(places))
        return take


def _checked(targets: np.ndarray, source: SliceSource, num_recordings: int) -> np.ndarray:
    """The targets as float32; raises ConfigError unless there is one for each recording."""
    if len(targets) != num_recordings:
        raise ConfigError(
            f"targets have {len(targets)} lines where {source.url} has {num_recordings} "
            "recordings: make them from all of source.recordings()"
        )
    return np.ascontiguousarray(targets, np.float32)


def _check_equal(here: dict[str, Any], there: dict[str, Any]) -> None:
    """Raises ConfigError where a state does not fit, with the differences."""
    differences = [
        f"{name}: {there.get(name)} then, {here.get(name)} now"
        for name in sorted({*here, *there})
        if here.get(name) != there.get(name)
    ]
    if differences:
        raise ConfigError(
            f"the state belongs to another training ({'; '.join(differences)}): "
            "resume with the same, or begin anew"
        )
