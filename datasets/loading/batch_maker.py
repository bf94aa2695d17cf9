"""Makes batches from positions of an epoch plan: look up, read, replace damaged slices.

    positions --requests--> Request (rows, extents) --make--> Batch

Many slices are looked up at once. `datasets.loading.reader` chooses positions and thread.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from datasets.augment.host_images import ImageTransforms
from datasets.batch import Batch
from datasets.chunks import Chunks
from datasets.levels import Levels
from datasets.loading.buffers import BufferPool
from datasets.loading.quarantine import CarefulReader
from datasets.loading.wanted import ChunkLookup, Wanted, join_cells
from datasets.sampling.epoch_plan import EpochPlan
from datasets.slice_source import SliceSource
from datasets.sources.background import BackgroundPlan
from datasets.sources.teacher import Teacher
from datasets.targets import Targets
from storage.errors import ConfigError, DamageError

_SPAN_BATCHES = 64  # batches whose extents are looked up together


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """One batch to read; position int64 [B]. `pool` int64 [B] of its partners, -1: none."""

    position: np.ndarray
    slices: Wanted
    background: Wanted | None
    partner: Wanted | None
    pool: np.ndarray | None

    def __getitem__(self, take: slice | np.ndarray) -> "Request":
        return Request(
            position=self.position[take],
            slices=self.slices[take],
            background=None if self.background is None else self.background[take],
            partner=None if self.partner is None else self.partner[take],
            pool=None if self.pool is None else self.pool[take],
        )

    def announce(self, files: CarefulReader) -> "Request":
        """Starts prefetching of slices, backgrounds and partners."""
        background = None if self.background is None else self.background.announce(files)
        partner = None if self.partner is None else self.partner.announce(files)
        slices = self.slices.announce(files)
        return replace(self, slices=slices, background=background, partner=partner)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """Pass over a plan: the state shared by its batches.

    `buffers` are of samples, `scratch` of single slices, before they are joined.
    """

    plan: EpochPlan
    epoch: int
    files: CarefulReader
    buffers: BufferPool
    scratch: BufferPool


class BatchMaker:
    """Makes the batches of plans. With `full`, good slices replace bad ones."""

    def __init__(
        self,
        source: SliceSource,
        targets: np.ndarray | Targets | None,
        transform: ImageTransforms | None,
        chunks: Chunks,
        levels: Levels | None,
        *,
        full: bool,
    ) -> None:
        num_recordings = len(source.recordings())
        self._source = source
        self._lookup = ChunkLookup(source, chunks, levels)
        if isinstance(targets, np.ndarray):
            if len(targets) != num_recordings:
                raise ConfigError(
                    f"targets have {len(targets)} lines where {source.url} has {num_recordings} "
                    "recordings: make them from all of source.recordings()"
                )
            targets = Targets(targets)
        self._targets = targets
        self._background: BackgroundPlan | None = None
        self._teacher: Teacher | None = None
        self.chunks = chunks
        self._transform = transform
        self._full = full
        self._top_db = source.recipe.top_db

    def add_background(self, background: BackgroundPlan) -> None:
        """Reads a background with each sample; raises ConfigError on one of another recipe."""
        source = self._source
        if background.source.recipe != source.recipe:
            raise ConfigError(
                f"the background {background.source.url} is made by {background.source.recipe}, "
                f"but {source.url} by {source.recipe}: build both by one recipe"
            )
        levels = None
        if self.chunks.count > 1:
            levels = Levels(background.source)
            levels.load()  # or say now why not
        self._background_lookup = ChunkLookup(background.source, self.chunks, levels)
        self._background = background

    def add_teacher(self, teacher: Teacher) -> None:
        """Gives the embeddings of a teacher with each sample."""
        self._teacher = teacher

    def rows_of(self, plan: EpochPlan) -> np.ndarray:
        """Returns the rows of all slices that a plan has read, int64, some of them several times.

        Without those of a background source.
        """
        if self._lookup.is_plain and plan.partner_rows is None:
            return plan.rows
        parts = [self._lookup.slice_rows(plan.rows)]
        if plan.partner_rows is not None and plan.partner_pool is not None:
            parts.append(self._lookup.slice_rows(plan.partner_rows[plan.partner_pool >= 0]))
        return np.concatenate(parts)

    def buffers_per_batch(self, plan: EpochPlan) -> int:
        """Counts the buffers that a batch holds."""
        return 1 + (self._background is not None) + (plan.partner_rows is not None)

    def requests(self, reading: Reading, bounds: Iterable[tuple[int, int]]) -> Iterator[Request]:
        """Yields the request of each batch, given as positions [start, stop) of the plan."""
        remaining = iter(bounds)
        num_batches = 1  # few in the first look-up, since the first batch waits for it
        while span := list(islice(remaining, num_batches)):
            num_batches = min(2 * num_batches, _SPAN_BATCHES)
            request = self._request(reading, np.concatenate([np.arange(*edges) for edges in span]))
            end = 0
            for low, high in span:
                begin, end = end, end + high - low
                yield request[begin:end]

    def make(self, request: Request, reading: Reading) -> Batch:
        """Reads a batch. With `full`, good slices replace bad ones, else those are left out.

        Raises DamageError where too many slices are bad, or all of a plan.
        """
        background = request.background
        slices = reading.buffers.take(len(request.position))
        request = self._read(request, reading, slices.numpy())
        slices = slices[: len(request.position)]
        levels = self._lookup.levels(request.slices)
        if self._transform is not None:
            if levels is not None:  # a transform may turn the picture around: no slices after it
                levels = join_cells(slices, levels, self._top_db)
            self._transform(slices.numpy(), epoch=reading.epoch, position=request.position)
        batch = Batch(
            slices=slices,
            targets=self._targets_of(request.slices),
            rows=torch.from_numpy(request.slices.rows),
            recording_no=torch.from_numpy(request.slices.recording_no),
            position=torch.from_numpy(request.position),
            epoch=torch.tensor(reading.epoch),
            levels=levels,
        )
        if background is not None:
            cells, background = _read_background(background, reading)
            levels = self._background_lookup.levels(background)
            batch = batch._replace(background=cells, background_levels=levels)
        if self._teacher is not None:
            of_slices = request.slices
            embeddings = self._teacher.of(np.where(of_slices.present_BK, of_slices.rows_BK, -1))
            batch = batch._replace(teacher=torch.from_numpy(embeddings))
        if request.partner is not None and request.pool is not None:
            batch = self._with_partners(batch, request.partner, request.pool, reading)
        return batch

    def _with_partners(
        self, batch: Batch, wanted: Wanted, pool: np.ndarray, reading: Reading
    ) -> Batch:
        """Reads the partners of the samples that have one; one that is bad is none."""
        cells = reading.buffers.take(len(pool))
        good = wanted.read(reading.files, cells.numpy(), reading.scratch)
        targets = self._targets_of(wanted)
        if targets is not None:
            targets[torch.from_numpy(~good | (pool < 0))] = 0
        return batch._replace(
            partner=cells,
            partner_levels=self._lookup.levels(wanted),
            partner_targets=targets,
            partner_pool=torch.from_numpy(np.where(good, pool, -1)),
        )

    def _targets_of(self, wanted: Wanted) -> Tensor | None:
        if self._targets is None:
            return None
        if self._lookup.is_plain:
            return torch.from_numpy(self._targets.of(wanted.rows, wanted.recording_no))
        rows_BK, present_BK = wanted.rows_BK, wanted.present_BK
        found = self._targets.of_chunks(rows_BK, present_BK, wanted.recording_no)
        return torch.from_numpy(found)

    def _request(self, reading: Reading, position: np.ndarray) -> Request:
        plan, background, partner, pool = reading.plan, None, None, None
        place = position % len(plan)
        if self._background is not None:
            drawn = self._background.rows(reading.epoch, position)
            background = self._background_lookup.wanted(drawn)
        if plan.partner_rows is not None and plan.partner_pool is not None:
            pool = plan.partner_pool[place].astype(np.int64)
            partner = self._lookup.wanted(plan.partner_rows[place], pool >= 0)
        return Request(
            position=position,
            slices=self._lookup.wanted(plan.rows[place]),
            background=background,
            partner=partner,
            pool=pool,
        )

    def _read(self, request: Request, reading: Reading, cells: np.ndarray) -> Request:
        """Fills `cells` from its beginning; returns the request of the slices in it."""
        good = request.slices.read(reading.files, cells, reading.scratch)
        if good.all():
            return request
        if not self._full:
            (kept,) = good.nonzero()
            cells[: len(kept)] = cells[kept]
            return request[kept]
        other = request
        for shift in range(len(good), len(reading.plan), len(good)):
            if good.any():
                break
            other = self._request(reading, request.position + shift)
            good = other.slices.read(reading.files, cells, reading.scratch)
        if not good.any():
            raise DamageError(f"no slice of {self._source.url} that the plan names can be read")
        take = _replacements(good)
        cells[:] = cells[take]
        return replace(request, slices=other.slices[take])


def _read_background(wanted: Wanted, reading: Reading) -> tuple[Tensor, Wanted]:
    """Reads the backgrounds of a batch; good ones replace bad ones."""
    slices = reading.buffers.take(len(wanted.rows))
    cells = slices.numpy()
    good = wanted.read(reading.files, cells, reading.scratch)
    if good.any() and not good.all():
        take = _replacements(good)
        cells[:] = cells[take]
        wanted = wanted[take]
    return slices, wanted


def _replacements(good: np.ndarray) -> np.ndarray:
    """Returns each good index itself and, for each bad one, a good one in turn; int64 [n]."""
    take = np.arange(len(good))
    take[~good] = np.resize(take[good], len(good) - int(good.sum()))
    return take
