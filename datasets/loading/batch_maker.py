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
from datasets.loading.buffers import BufferPool
from datasets.loading.quarantine import CarefulReader, look_up
from datasets.sampling.epoch_plan import EpochPlan
from datasets.slice_source import SliceSource, row_bounds
from datasets.sources.background import BackgroundPlan
from datasets.sources.teacher import Teacher
from datasets.targets import Targets
from storage.errors import ConfigError, DamageError
from storage.read.extents import AnnouncedRead, Extents

_SPAN_BATCHES = 64  # batches whose extents are looked up together


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wanted:
    """Slices to read of one source: rows int64 [B], and B extents, announced or not."""

    rows: np.ndarray
    extents: Extents
    announced: AnnouncedRead | None = None

    def __getitem__(self, take: slice | np.ndarray) -> "Wanted":
        return Wanted(rows=self.rows[take], extents=self.extents[take])

    def announce(self, files: CarefulReader) -> "Wanted":
        """Starts prefetching, by the kernel or from the object store."""
        return replace(self, announced=files.announce(self.extents))

    def read(self, files: CarefulReader, cells: np.ndarray) -> np.ndarray:
        """Fills `cells` [B, ...]; returns a mask of the good slices, bool [B]."""
        return files.read_rows(self.announced or self.extents, self.rows, cells)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """One batch to read; position and recording_no int64 [B]."""

    position: np.ndarray
    recording_no: np.ndarray
    slices: Wanted
    background: Wanted | None

    def __getitem__(self, take: slice | np.ndarray) -> "Request":
        return Request(
            position=self.position[take],
            recording_no=self.recording_no[take],
            slices=self.slices[take],
            background=None if self.background is None else self.background[take],
        )

    def announce(self, files: CarefulReader) -> "Request":
        """Starts prefetching of slices and backgrounds."""
        background = None if self.background is None else self.background.announce(files)
        return replace(self, slices=self.slices.announce(files), background=background)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """Pass over a plan: the state shared by its batches."""

    plan: EpochPlan
    epoch: int
    files: CarefulReader
    buffers: BufferPool


class BatchMaker:
    """Makes the batches of plans. With `full`, good slices replace bad ones."""

    def __init__(
        self,
        source: SliceSource,
        *,
        targets: np.ndarray | Targets | None,
        background: BackgroundPlan | None,
        transform: ImageTransforms | None,
        full: bool,
        teacher: Teacher | None = None,
    ) -> None:
        recordings = source.recordings()
        self._source = source
        self._first_row, self._end_row = row_bounds(recordings)
        if isinstance(targets, np.ndarray):
            if len(targets) != len(recordings):
                raise ConfigError(
                    f"targets have {len(targets)} lines where {source.url} has {len(recordings)} "
                    "recordings: make them from all of source.recordings()"
                )
            targets = Targets(targets)
        self._targets = targets
        if background is not None and background.source.recipe != source.recipe:
            raise ConfigError(
                f"the background {background.source.url} is made by {background.source.recipe}, "
                f"but {source.url} by {source.recipe}: build both by one recipe"
            )
        self._background = background
        self._transform = transform
        self._full = full
        self._teacher = teacher

    @property
    def buffers_per_batch(self) -> int:
        """Buffers that a batch holds."""
        return 1 if self._background is None else 2

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
        if self._transform is not None:
            self._transform(slices.numpy(), epoch=reading.epoch, position=request.position)
        targets = None
        if self._targets is not None:
            targets = torch.from_numpy(self._targets.of(request.slices.rows, request.recording_no))
        teacher = None
        if self._teacher is not None:
            teacher = torch.from_numpy(self._teacher.of(request.slices.rows))
        return Batch(
            slices=slices,
            targets=targets,
            rows=torch.from_numpy(request.slices.rows),
            recording_no=torch.from_numpy(request.recording_no),
            position=torch.from_numpy(request.position),
            epoch=torch.tensor(reading.epoch),
            background=None if background is None else _read_background(background, reading),
            teacher=teacher,
        )

    def _request(self, reading: Reading, position: np.ndarray) -> Request:
        plan = reading.plan
        rows = plan.rows[position % len(plan)]
        recording_no = np.searchsorted(self._first_row, rows, side="right") - 1
        if (recording_no < 0).any() or (rows >= self._end_row[recording_no]).any():
            raise ConfigError(f"the plan names rows that {self._source.url} does not have")
        background = None
        if self._background is not None:
            drawn = self._background.rows(reading.epoch, position)
            background = Wanted(rows=drawn, extents=look_up(self._background.source, drawn))
        return Request(
            position=position,
            recording_no=recording_no,
            slices=Wanted(rows=rows, extents=look_up(self._source, rows)),
            background=background,
        )

    def _read(self, request: Request, reading: Reading, cells: np.ndarray) -> Request:
        """Fills `cells` from its beginning; returns the request of the slices in it."""
        good = request.slices.read(reading.files, cells)
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
            good = other.slices.read(reading.files, cells)
        if not good.any():
            raise DamageError(f"no slice of {self._source.url} that the plan names can be read")
        take = _replacements(good)
        cells[:] = cells[take]
        return replace(request, recording_no=other.recording_no[take], slices=other.slices[take])


def _read_background(wanted: Wanted, reading: Reading) -> Tensor:
    """Reads the backgrounds of a batch; good ones replace bad ones."""
    slices = reading.buffers.take(len(wanted.rows))
    cells = slices.numpy()
    good = wanted.read(reading.files, cells)
    if good.any() and not good.all():
        cells[:] = cells[_replacements(good)]
    return slices


def _replacements(good: np.ndarray) -> np.ndarray:
    """Returns each good index itself and, for each bad one, a good one in turn; int64 [n]."""
    take = np.arange(len(good))
    take[~good] = np.resize(take[good], len(good) - int(good.sum()))
    return take
