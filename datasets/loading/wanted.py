"""Slices that a batch needs of one source: looked up, announced, read and joined to chunks.

    lookup = ChunkLookup(source, chunks, levels)
    wanted = lookup.wanted(rows)
    good = wanted.announce(files).read(files, cells, scratch)

Shapes: B samples, K slices of a sample (1 without `chunk.length_s`), M mel bands, T frames.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from datasets.chunks import Chunks, join_levels
from datasets.levels import Levels
from datasets.loading.buffers import BufferPool
from datasets.loading.quarantine import CarefulReader, look_up
from datasets.slice_source import SliceSource, row_bounds
from storage.encoding import quantise, to_unit
from storage.errors import ConfigError
from storage.read.extents import AnnouncedRead, Extents


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wanted:
    """Slices to read of one source for B samples.

    rows int64 [B] are those of the plan, rows_BK those of the slices, present_BK bool the places
    that have one; `extents` B * K, those of places without one to be ignored; announced or not.
    """

    rows: np.ndarray
    recording_no: np.ndarray
    rows_BK: np.ndarray
    present_BK: np.ndarray
    extents: Extents
    announced: AnnouncedRead | None = None

    def __getitem__(self, take: slice | np.ndarray) -> "Wanted":
        width = self.rows_BK.shape[1]
        places: slice | np.ndarray = take
        if width > 1:
            numbers = np.arange(len(self.rows))[take]
            places = (numbers[:, None] * width + np.arange(width)).ravel()
        return Wanted(
            rows=self.rows[take],
            recording_no=self.recording_no[take],
            rows_BK=self.rows_BK[take],
            present_BK=self.present_BK[take],
            extents=self.extents[places],
        )

    @property
    def num_present(self) -> int:
        """Number of slices to read."""
        return int(np.count_nonzero(self.present_BK))

    def announce(self, files: CarefulReader) -> "Wanted":
        """Starts prefetching, by the kernel or from the object store."""
        if not self.num_present:
            return self
        return replace(self, announced=files.announce(self._present_extents()))

    def read(self, files: CarefulReader, cells: np.ndarray, scratch: BufferPool) -> np.ndarray:
        """Fills `cells` [B, M, T], zeros where no slice is; returns a mask of good samples, bool.

        A sample is good where all its slices are.
        """
        num, width = self.rows_BK.shape
        if width == 1 and self.num_present == num:
            return files.read_rows(self.announced or self.extents, self.rows, cells)
        cells_BMKT = cells.reshape(num, cells.shape[1], width, cells.shape[2] // width)
        sample, place = (~self.present_BK).nonzero()
        cells_BMKT[sample, :, place] = 0
        good_BK = np.ones_like(self.present_BK)
        if self.num_present:
            sample, place = self.present_BK.nonzero()
            slices = scratch.take(len(sample)).numpy()
            wanted = self.announced or self._present_extents()
            good_BK[sample, place] = files.read_rows(wanted, self.rows_BK[sample, place], slices)
            cells_BMKT[sample, :, place] = slices
        return np.asarray(good_BK.all(1))

    def _present_extents(self) -> Extents:
        if self.num_present == self.present_BK.size:
            return self.extents
        return self.extents[self.present_BK.ravel().nonzero()[0]]


class ChunkLookup:
    """Finds the slices of samples of one source, and their levels where those are needed."""

    def __init__(self, source: SliceSource, chunks: Chunks, levels: Levels | None) -> None:
        self._source = source
        self._chunks = chunks
        self._levels = levels
        self._first_row, self._end_row = row_bounds(source.recordings())
        if chunks.count > 1 and levels is None:
            raise ConfigError("chunks of several slices need the levels of their source")

    @property
    def is_plain(self) -> bool:
        """True where a sample is one slice."""
        return self._chunks.count == 1

    def slice_rows(self, rows: np.ndarray) -> np.ndarray:
        """Returns the rows of all slices of the samples of int64 rows [B], int64 [n]."""
        if self.is_plain:
            return rows
        recording_no = np.searchsorted(self._first_row, rows, side="right") - 1
        bounds = self._first_row[recording_no], self._end_row[recording_no]
        rows_BK, present_BK = self._chunks.rows(rows, *bounds)
        return np.asarray(rows_BK[present_BK])

    def wanted(self, rows: np.ndarray, present: np.ndarray | None = None) -> Wanted:
        """Looks up the samples of int64 rows [B]; `present` bool [B]: those to read, if not all.

        Raises ConfigError where the source has no such row.
        """
        recording_no = np.searchsorted(self._first_row, rows, side="right") - 1
        if (recording_no < 0).any() or (rows >= self._end_row[recording_no]).any():
            raise ConfigError(f"the plan names rows that {self._source.url} does not have")
        rows_BK, present_BK = rows[:, None], np.ones((len(rows), 1), bool)
        if not self.is_plain:
            bounds = self._first_row[recording_no], self._end_row[recording_no]
            rows_BK, present_BK = self._chunks.rows(rows, *bounds)
        if present is not None:
            present_BK = present_BK & present[:, None]
        return Wanted(
            rows=rows,
            recording_no=recording_no,
            rows_BK=rows_BK,
            present_BK=present_BK,
            extents=look_up(self._source, rows_BK.ravel()),
        )

    def levels(self, wanted: Wanted) -> Tensor | None:
        """Returns the levels, float32 [B, K], -inf where no slice is; None: not needed."""
        if self._levels is None:
            return None
        found = np.where(wanted.present_BK, self._levels.of(wanted.rows_BK), -np.inf)
        return torch.from_numpy(found.astype(np.float32))


def join_cells(cells: Tensor, levels_BK: Tensor, top_db: float) -> Tensor:
    """Joins slices of any encoding on the host, in place; returns the new levels, float32 [B, K].

    For transforms of whole pictures: afterwards all slices of a sample have the level of the
    loudest, so that joining them again changes nothing.
    """
    if levels_BK.shape[1] > 1:
        unit_BMT = join_levels(to_unit(cells), levels_BK, top_db)
        cells.numpy()[:] = quantise(unit_BMT.numpy(), cells.numpy().dtype)
    return levels_BK.amax(1, keepdim=True).expand_as(levels_BK).contiguous()
