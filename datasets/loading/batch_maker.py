"""Positions of an epoch plan -> a batch in memory: look up, read, put right what is damaged.

    positions --requests--> Request (rows, extents) --make--> Batch

Many slices are looked up at once. `datasets.loading.reader` decides which positions, and in which
thread.
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
from datasets.slice_source import SliceSource
from storage.errors import ConfigError, DamageError
from storage.read.extents import AnnouncedRead, Extents

_SPAN_BATCHES = 64  # batches whose extents are looked up together


class SliceTargets(Protocol):
    """Targets that may differ from slice to slice, such as `datasets.targets.Targets`."""

    def of(self, rows: np.ndarray, recording_no: np.ndarray) -> np.ndarray:
        """float32 [n, C] of slices and their recordings, both int64 [n]."""


class Background(Protocol):
    """What is read beside each sample, to be mixed in."""

    @property
    def source(self) -> SliceSource:
        """Where it is read from; its recipe is that of the samples."""

    def rows(self, epoch: int, position: np.ndarray) -> np.ndarray:
        """The row of `source`, int64 [n], that goes with each position, int64 [n], of an epoch."""


class SliceTransform(Protocol):
    """What is done to slices as soon as they are read, such as `ImageTransforms`."""

    def __call__(self, slices_BMT: np.ndarray, *, epoch: int, position: np.ndarray) -> None:
        """Changes slices as stored in place; `position` int64 [B] in the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Beside:
    """Backgrounds to read: int64 [B] rows of their source, and B extents."""

    rows: np.ndarray
    extents: Extents

    def __getitem__(self, take: slice | np.ndarray) -> "Beside":
        return Beside(rows=self.rows[take], extents=self.extents[take])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """One batch to read: int64 [B] arrays and B extents."""

    position: np.ndarray
    rows: np.ndarray
    recording_no: np.ndarray
    extents: Extents
    beside: Beside | None

    def __getitem__(self, take: slice | np.ndarray) -> "Request":
        return Request(
            position=self.position[take],
            rows=self.rows[take],
            recording_no=self.recording_no[take],
            extents=self.extents[take],
            beside=None if self.beside is None else self.beside[take],
        )

    def announce(self, files: CarefulReader) -> "AnnouncedRequest":
        """Requests what will be read from the object store, or from the kernel."""
        return AnnouncedRequest(
            request=self,
            slices=files.announce(self.extents),
            beside=None if self.beside is None else files.announce(self.beside.extents),
        )

    def with_slices(self, other: "Request", take: np.ndarray) -> "Request":
        """The same positions, with slices of another request in their place."""
        rows, recording_no = other.rows[take], other.recording_no[take]
        return replace(self, rows=rows, recording_no=recording_no, extents=other.extents[take])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnnouncedRequest:
    """One batch whose extents, and those of its background, were announced."""

    request: Request
    slices: AnnouncedRead
    beside: AnnouncedRead | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """A pass over a plan: what stays the same from batch to batch."""

    plan: EpochPlan
    epoch: int
    files: CarefulReader
    buffers: BufferPool


class BatchMaker:
    """Makes the batches of plans. With `full` a batch keeps its size though slices be bad."""

    def __init__(
        self,
        source: SliceSource,
        *,
        targets: np.ndarray | SliceTargets | None,
        background: Background | None,
        transform: SliceTransform | None,
        full: bool,
    ) -> None:
        recordings = source.recordings()
        self._source = source
        self._first_row = recordings["first_row"].to_numpy()
        self._end_row = self._first_row + recordings["num_slices"].to_numpy()
        if isinstance(targets, np.ndarray):
            targets = _RecordingTargets(targets, source.url, len(recordings))
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
        """How many buffers a batch holds."""
        return 1 if self._background is None else 2

    def requests(self, reading: Reading, bounds: Iterable[tuple[int, int]]) -> Iterator[Request]:
        """What to read for each batch, given as positions [start, stop) of the plan."""
        remaining = iter(bounds)
        num_batches = 1  # of the first look-up, which the first batch waits for
        while span := list(islice(remaining, num_batches)):
            num_batches = min(2 * num_batches, _SPAN_BATCHES)
            whole = self._request(reading, np.concatenate([np.arange(*edges) for edges in span]))
            end = 0
            for low, high in span:
                begin, end = end, end + high - low
                yield whole[begin:end]

    def make(self, announced: AnnouncedRequest, reading: Reading) -> Batch:
        """Reads a batch. Without `full`, bad slices are left out, else good ones stand in.

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
            background=_read_beside(announced, reading),
        )

    def _request(self, reading: Reading, position: np.ndarray) -> Request:
        plan = reading.plan
        rows = plan.rows[position % len(plan)]
        recording_no = np.searchsorted(self._first_row, rows, side="right") - 1
        if (recording_no < 0).any() or (rows >= self._end_row[recording_no]).any():
            raise ConfigError(f"the plan names rows that {self._source.url} does not have")
        beside = None
        if self._background is not None:
            behind = self._background.rows(reading.epoch, position)
            beside = Beside(rows=behind, extents=look_up(self._background.source, behind))
        return Request(
            position=position,
            rows=rows,
            recording_no=recording_no,
            extents=look_up(self._source, rows),
            beside=beside,
        )

    def _read(self, announced: AnnouncedRequest, reading: Reading, cells: np.ndarray) -> Request:
        """Fills `cells` from its beginning; returns what it was filled with."""
        request = announced.request
        good = reading.files.read(announced.slices, request.rows, cells)
        if good.all():
            return request
        if not self._full:
            (places,) = good.nonzero()
            cells[: len(places)] = cells[places]
            return request[places]
        came = request
        for shift in range(len(good), len(reading.plan), len(good)):
            if good.any():
                break
            came = self._request(reading, request.position + shift)
            good = reading.files.read(came.extents, came.rows, cells)
        if not good.any():
            raise DamageError(f"no slice of {self._source.url} that the plan names can be read")
        take = _stand_ins(good)
        cells[:] = cells[take]
        return request.with_slices(came, take)


class _RecordingTargets:
    """The same target for all slices of a recording."""

    def __init__(self, targets: np.ndarray, url: str, num_recordings: int) -> None:
        if len(targets) != num_recordings:
            raise ConfigError(
                f"targets have {len(targets)} lines where {url} has {num_recordings} "
                "recordings: make them from all of source.recordings()"
            )
        self._targets = np.ascontiguousarray(targets, np.float32)

    def of(self, rows: np.ndarray, recording_no: np.ndarray) -> np.ndarray:
        found: np.ndarray = self._targets[recording_no]
        return found


def _read_beside(announced: AnnouncedRequest, reading: Reading) -> Tensor | None:
    """The backgrounds of a batch; a good one stands in for a bad one, silence where none is."""
    beside = announced.request.beside
    if beside is None or announced.beside is None:
        return None
    background = reading.buffers.take(len(beside.rows))
    cells = background.numpy()
    good = reading.files.read(announced.beside, beside.rows, cells)
    if good.any() and not good.all():
        cells[:] = cells[_stand_ins(good)]
    return background


def _stand_ins(good: np.ndarray) -> np.ndarray:
    """int64 [n]: each good place itself, for each other one a good one in turn."""
    take = np.arange(len(good))
    take[~good] = np.resize(take[good], len(good) - int(good.sum()))
    return take
