"""Carries out an epoch plan: an ordinary iterable of batches, read ahead in one thread.

    reader = BatchReader(source, planner, LoaderConfig(batch_size=64), targets=targets, train=True)
    for epoch in range(20):
        reader.set_epoch(epoch)
        for batch in reader:
            ...

Plan -> this rank's positions -> rows -> extents -> a reused buffer -> Batch. It reads stores and
tar shards, in a plain loop or as a Lightning dataloader: it has a length, a state, and
`sampler.set_epoch`. Nothing is opened and no thread runs before the first batch is requested;
leaving the loop, by its end, `break`, an exception or Ctrl-C, ends the thread and closes the files.
"""

import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch

from datasets.augment.host_images import ImageTransforms
from datasets.batch import Batch
from datasets.chunks import Chunks
from datasets.levels import Levels
from datasets.loading.batch_maker import BatchMaker, Reading, Request
from datasets.loading.buffers import BufferPool
from datasets.loading.config import LoaderConfig
from datasets.loading.prefetch import prefetch
from datasets.loading.quarantine import BadSlice, CarefulReader
from datasets.loading.rank_share import KEEP, RankShare
from datasets.sampling.epoch_plan import EpochPlan
from datasets.slice_source import SliceSource
from datasets.sources.background import BackgroundPlan
from datasets.sources.teacher import Teacher
from datasets.targets import Targets
from storage.errors import ConfigError
from storage.objects.client import AUTO
from storage.read.cache_policy import ShardUse, choose_mode

ONE_SLICE = Chunks()


class BatchReader:
    """Iterates over the batches of one rank, epoch after epoch.

    `planner` gives the plan of an epoch: an `EpochPlanner`, or a function of the epoch. `targets`
    float32 [recordings, C] by position in `source.recordings()`, or `Targets`, or None.
    `background` chooses backgrounds to read with the samples, `teacher` has embeddings to learn,
    `transform` changes slices as soon as they are read. `chunks` joins several slices to a sample,
    and needs `levels`, as do partners that the plan has drawn (`sampling.inject`). With `train` the
    epoch is cut or wrapped to full effective batches and good slices replace bad ones; else every
    sample comes exactly once and bad ones are left out (see `RankShare`). The caller may keep a
    batch.
    """

    batch_sampler = None  # Lightning looks for one wherever there is a sampler

    def __init__(
        self,
        source: SliceSource,
        planner: Callable[[int], EpochPlan],
        config: LoaderConfig,
        *,
        targets: np.ndarray | Targets | None,
        train: bool,
        background: BackgroundPlan | None = None,
        transform: ImageTransforms | None = None,
        chunks: Chunks = ONE_SLICE,
        levels: Levels | None = None,
        teacher: Teacher | None = None,
        rank: int = 0,
        world_size: int = 1,
        accumulation: int = 1,
    ) -> None:
        self._source = source
        self._planner = planner
        self._config = config
        self._train = train
        self._maker = BatchMaker(source, targets, transform, chunks, levels, full=train)
        if background is not None:
            self._maker.add_background(background)
        if teacher is not None:
            self._maker.add_teacher(teacher)
        self._more_inputs = _inputs(background, chunks, teacher)
        self._mode: str | None = None  # of object stores; None: `remote.mode`
        self._epoch = 0
        plan = planner(0)
        self._plan: EpochPlan | None = plan
        self._share = RankShare(
            num_samples=len(plan),
            batch_size=config.batch_size,
            rank=rank,
            world_size=world_size,
            accumulation=accumulation if train else 1,
            remainder=config.remainder if train else KEEP,
        )
        self._share.check()
        self._delivered = self._resume_at = 0  # batches of this rank; where the next pass begins
        self._running: weakref.WeakSet[Generator[Batch, None, None]] = weakref.WeakSet()
        self._spare_pools: list[BufferPool] = []  # of finished iterations
        self.bad: list[BadSlice] = []

    def __repr__(self) -> str:
        """Source, batches and position."""
        return (
            f"BatchReader({self._source.url}: {len(self):,} batches of {self._config.batch_size}, "
            f"rank {self._share.rank} of {self._share.world_size}; epoch {self._epoch}, "
            f"batch {self._delivered})"
        )

    def __len__(self) -> int:
        """Number of batches in a full epoch, resumed or not."""
        return self._share.num_batches

    def __iter__(self) -> Iterator[Batch]:
        """Yields the rest of the epoch after `load_state_dict`, else all of it."""
        start, self._resume_at = self._resume_at, 0
        batches = self.read_batches(range(start, len(self)), ahead=True)
        self._delivered = start
        try:
            for batch in batches:
                self._delivered += 1
                yield batch
        finally:
            batches.close()

    def read_batches(self, numbers: range, *, ahead: bool) -> Generator[Batch, None, None]:
        """Yields batches of the current epoch by number; `ahead` reads them in a thread.

        Does not change the state.
        """
        # torch publishes no type for is_initialized
        device = torch.cuda.current_device() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
        config = self._config
        files = CarefulReader(
            self._source.remote,
            check=config.check,
            max_bad=config.max_bad,
            bad=self.bad,
            mode=self._mode,
        )
        batches = prefetch(
            self._read(self._current_plan(), numbers, self._epoch, files, device),
            config.prefetch_batches if ahead else 0,
            files.interrupt,
        )
        self._running.add(batches)
        return batches

    def expect_epochs(self, num_epochs: int) -> str:
        """Announces the number of epochs, by which `remote.mode=auto` chooses its mode.

        Without it each epoch counts as the only one. Returns the choice and its reason; an empty
        string where there is no choice, or all is local.
        """
        config = self._source.remote
        use = ShardUse()
        if config.mode == AUTO:
            use = self._source.shard_use(self._maker.rows_of(self._current_plan()))
        if not use.shard_bytes:
            return ""
        size = config.cache_bytes
        self._mode, reason = choose_mode(use, num_epochs=num_epochs, cache_bytes=size)
        return f"{self._mode} ({reason})"

    def prepare(self) -> None:
        """Looks up one slice, so that the source builds its lazy tables now."""
        self._source.extents(self._current_plan().rows[:1])

    def __getstate__(self) -> dict[str, Any]:
        """State for another process: all but running iterations and their memory."""
        left = ("_running", "_spare_pools")
        return {name: value for name, value in self.__dict__.items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _running=weakref.WeakSet(), _spare_pools=[])

    @property
    def sampler(self) -> "BatchReader":
        """Itself: Lightning calls `dataloader.sampler.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Moves to the beginning of an epoch; the current epoch keeps its position."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._delivered = self._resume_at = 0

    def state_dict(self) -> dict[str, Any]:
        """Returns the position in training as plain values, the same on every rank.

        Counts the samples delivered over all ranks, without those prefetched.
        """
        plan = self._current_plan()
        return {
            "epoch": self._epoch,
            "delivered": self._delivered * self._share.global_batch,
            "global_batch": self._share.global_batch,
            "effective_batch": self._share.effective_batch,
            "seed": plan.seed,
            "inputs": {**plan.inputs, **self._more_inputs},
            "digest": plan.digest,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resumes at the position of `state_dict`; the number of ranks may differ.

        Raises ConfigError, naming the differences, where plan or effective batch differ.
        """
        self._epoch = state["epoch"]
        plan = self._current_plan()
        here = {
            **plan.inputs,
            **self._more_inputs,
            "seed": plan.seed,
            "effective_batch": self._share.effective_batch,
        }
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
                f"the state is at sample {state['delivered']}, inside a global batch of "
                f"{self._share.global_batch}: resume a checkpoint made at an optimizer step"
            )
        self._delivered = self._resume_at = state["delivered"] // self._share.global_batch

    def close(self) -> None:
        """Ends all running iterations, with their threads, files and memory."""
        for batches in list(self._running):
            batches.close()
        self._spare_pools.clear()

    def _current_plan(self) -> EpochPlan:
        plan = self._plan
        if plan is None or (self._train and plan.epoch != self._epoch):
            plan = self._plan = None  # let go first: a plan of 100,000,000 samples takes 1.2 GB
            plan = self._planner(self._epoch if self._train else 0)
            if len(plan) != self._share.num_samples:
                raise ConfigError(
                    f"the plan of epoch {self._epoch} has {len(plan)} samples where that of "
                    f"epoch 0 has {self._share.num_samples}: all epochs must be equally long"
                )
            self._plan = plan
        return plan

    def _read(
        self, plan: EpochPlan, numbers: range, epoch: int, files: CarefulReader, device: int | None
    ) -> Iterator[Batch]:
        """Reads batches by number; runs in the background thread."""
        if device is not None:
            torch.cuda.set_device(device)  # a new thread is on device 0
        with self._pool(plan, pinned=device is not None) as pool, files:
            reading = Reading(
                plan=plan, epoch=epoch, files=files, buffers=pool, scratch=self._scratch()
            )
            requests = self._maker.requests(reading, map(self._share.bounds, numbers))
            ahead: deque[Request] = deque()
            while True:
                while len(ahead) < 2 or files.wants_more:
                    request = next(requests, None)
                    if request is None:
                        break
                    ahead.append(request.announce(files))
                if not ahead:
                    return
                yield self._maker.make(ahead.popleft(), reading)

    @contextmanager
    def _pool(self, plan: EpochPlan, *, pinned: bool) -> Iterator[BufferPool]:
        """Yields the buffers of one iteration, reused from an earlier one where possible."""
        pool = None
        with suppress(IndexError):
            pool = self._spare_pools.pop()
        if pool is None or pool.pinned != pinned:
            num_buffers = self._maker.buffers_per_batch(plan)
            pool = BufferPool(
                (self._config.batch_size, *self._maker.chunks.shape(self._source.recipe)),
                self._source.recipe.dtype,
                keep=(self._config.prefetch_batches + 3) * num_buffers,
                pinned=pinned,
            )
        try:
            yield pool
        finally:
            self._spare_pools.append(pool)

    def _scratch(self) -> BufferPool:
        """Returns memory for the single slices of a batch, to be joined from there."""
        recipe = self._source.recipe
        shape = (self._config.batch_size * self._maker.chunks.count, *recipe.slice_shape)
        return BufferPool(shape, recipe.dtype, keep=1, pinned=False)


def _inputs(
    background: BackgroundPlan | None, chunks: Chunks, teacher: Teacher | None
) -> dict[str, str]:
    """Names, as text, what decides the batches besides the plan, as far as it is used."""
    inputs = {} if background is None else {"background": background.source.store_id}
    if chunks.count > 1:
        inputs["chunk"] = f"{chunks.count} slices, padding {chunks.padding}"
    if teacher is not None:
        inputs["teacher"] = teacher.digest
    return inputs


def _check_equal(here: dict[str, Any], there: dict[str, Any]) -> None:
    """Raises ConfigError, with the differences, where a state does not match."""
    differences = [
        f"{name}: {there.get(name)} then, {here.get(name)} now"
        for name in sorted({*here, *there})
        if here.get(name) != there.get(name)
    ]
    if differences:
        raise ConfigError(
            f"the state belongs to another training ({'; '.join(differences)}): "
            "resume with the same, or start again"
        )
