"""Makes batches from positions of an epoch plan: look up, read, replace damaged slices.

    positions --requests--> Request (rows, extents) --make--> Batch

Many slices are looked up at once. `datasets.loading.reader` chooses positions and thread.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from datasets.batch import Batch
from datasets.loading.buffers import BufferPool
from datasets.loading.quarantine import CarefulReader, look_up
from datasets.sampling.epoch_plan import EpochPlan
from datasets.slice_source import SliceSource, row_bounds
from datasets.targets import Targets
from storage.errors import ConfigError, DamageError
from storage.read.extents import AnnouncedRead, Extents

_SPAN_BATCHES = 64  # batches whose extents are looked up together


class Background(Protocol):
    """Chooses the background slice of each sample, such as `BackgroundPlan`."""

    @property
    def source(self) -> SliceSource:
        """Background source; its recipe is that of the samples."""

    def rows(self, epoch: int, position: np.ndarray) -> np.ndarray:
        """Returns the row of `source`, int64 [n], for each position, int64 [n], of an epoch."""


class SliceTransform(Protocol):
    """Transform of slices as soon as they are read, such as `ImageTransforms`."""

    def __call__(self, slices_BMT: np.ndarray, *, epoch: int, position: np.ndarray) -> None:
        """Changes slices as stored in place; `position` int64 [B] in the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BackgroundRequest:
    """Backgrounds to read: rows int64 [B] of their source, and B extents."""

    rows: np.ndarray
    extents: Extents

    def __getitem__(self, take: slice | np.ndarray) -> "BackgroundRequest":
        return BackgroundRequest(rows=self.rows[take], extents=self.extents[take])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """One batch to read: int64 [B] arrays and B extents."""

    position: np.ndarray
    rows: np.ndarray
    recording_no: np.ndarray
    extents: Extents
    background: BackgroundRequest | None

    def __getitem__(self, take: slice | np.ndarray) -> "Request":
        return Request(
            position=self.position[take],
            rows=self.rows[take],
            recording_no=self.recording_no[take],
            extents=self.extents[take],
            background=None if self.background is None else self.background[take],
        )

    def announce(self, files: CarefulReader) -> "AnnouncedRequest":
        """Starts prefetching of the request, by the kernel or from the object store."""
        return AnnouncedRequest(
            request=self,
            slices=files.announce(self.extents),
            background=None if self.background is None else files.announce(self.background.extents),
        )

    def with_slices(self, other: "Request", take: np.ndarray) -> "Request":
        """Returns the same positions with slices of another request."""
        rows, recording_no = other.rows[take], other.recording_no[take]
        return replace(self, rows=rows, recording_no=recording_no, extents=other.extents[take])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnnouncedRequest:
    """One batch whose extents, and those of its background, were announced."""

    request: Request
    slices: AnnouncedRead
    background: AnnouncedRead | None


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
        background: Background | None,
        transform: SliceTransform | None,
        full: bool,
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

    def make(self, announced: AnnouncedRequest, reading: Reading) -> Batch:
        """Reads a batch. With `full`, good slices replace bad ones, else those are left out.

        Raises DamageError where too many slices are bad, or all of a plan.
        """
        slices = reading.buffers.take(len(announced.request.rows))
        request = self._read(announced, reading, slices.numpy())
        slices = slices[: len(request.rows)]
        if self._transform is not None:
            self._transform(slices.numpy(), epoch=reading.epoch, position=request.position)
        targets = None
        if self._targets is not None:
            targets = torch.from_numpy(self._targets.of(request.rows, request.recording_no))
        return Batch(
            slices=slices,
            targets=targets,
            rows=torch.from_numpy(request.rows),
            recording_no=torch.from_numpy(request.recording_no),
            position=torch.from_numpy(request.position),
            epoch=torch.tensor(reading.epoch),
            background=_read_background(announced, reading),
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
            extents = look_up(self._background.source, drawn)
            background = BackgroundRequest(rows=drawn, extents=extents)
        return Request(
            position=position,
            rows=rows,
            recording_no=recording_no,
            extents=look_up(self._source, rows),
            background=background,
        )

    def _read(self, announced: AnnouncedRequest, reading: Reading, cells: np.ndarray) -> Request:
        """Fills `cells` from its beginning; returns the request of the slices in it."""
        request = announced.request
        good = reading.files.read_rows(announced.slices, request.rows, cells)
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
            good = reading.files.read_rows(other.extents, other.rows, cells)
        if not good.any():
            raise DamageError(f"no slice of {self._source.url} that the plan names can be read")
        take = _replacements(good)
        cells[:] = cells[take]
        return request.with_slices(other, take)


def _read_background(announced: AnnouncedRequest, reading: Reading) -> Tensor | None:
    """Reads the backgrounds of a batch; good ones replace bad ones."""
    request = announced.request.background
    if request is None or announced.background is None:
        return None
    slices = reading.buffers.take(len(request.rows))
    cells = slices.numpy()
    good = reading.files.read_rows(announced.background, request.rows, cells)
    if good.any() and not good.all():
        cells[:] = cells[_replacements(good)]
    return slices


def _replacements(good: np.ndarray) -> np.ndarray:
    """Returns each good index itself and, for each bad one, a good one in turn; int64 [n]."""
    take = np.arange(len(good))
    take[~good] = np.resize(take[good], len(good) - int(good.sum()))
    return take
