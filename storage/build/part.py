"""Builds one part: the work that a worker process does, from audio files to committed objects.

The order is the commit protocol: zarr shards, then recordings and rejects, then the index.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from storage.build.plan import PartJob, PartRange, PartReport
from storage.build.reconcile import with_metadata
from storage.build.slice_maker import MadeSlice, slice_maker
from storage.checksums import crc32c
from storage.errors import AudioError, ObjectExistsError, ObjectMissingError, StoreError
from storage.format.chunk_codecs import encode_chunk
from storage.format.tables import (
    DUPLICATE,
    INDEX,
    PARTIAL,
    RECORDING_SCHEMA,
    RECORDINGS,
    REJECTS,
    SCHEMAS,
    STORED,
    encode_table,
    table_name,
)
from storage.format.zarr_shards import SLICES_PER_ZARR_SHARD, encode_shard, shard_name
from storage.objects.open import open_objects
from storage.objects.protocol import Objects
from storage.recipe import Recipe
from storage.source.kinds import intake_of

Row = dict[str, Any]


class PartFullError(Exception):
    """A recording has more slices than its part has rows left; it is planned again."""


@dataclass(slots=True)
class ShardWriter:
    """Collects a part's chunks and puts each zarr shard as it fills."""

    objects: Objects
    range: PartRange
    recipe: Recipe
    codec: str
    num_rows: int = 0
    chunks: list[bytes] = field(default_factory=list)

    def add(self, cells: np.ndarray) -> int:
        """Adds one slice and returns its row."""
        if self.num_rows == self.range.capacity:
            raise PartFullError
        row = self.range.first_row + self.num_rows
        self.chunks.append(encode_chunk(cells, self.codec))
        self.num_rows += 1
        if len(self.chunks) == SLICES_PER_ZARR_SHARD:
            self.flush()
        return row

    def fill_to(self, row: int) -> None:
        """Fills up with zeros to a row: in a rebuilt part every slice is where it was."""
        empty = np.zeros(self.recipe.slice_shape, self.recipe.dtype)
        while self.range.first_row + self.num_rows < row:
            self.add(empty)

    def rewind(self, num_rows: int) -> None:
        """Removes what was added since there were `num_rows`, unless it is on disk already."""
        surplus = self.num_rows - num_rows
        if surplus <= len(self.chunks):
            del self.chunks[len(self.chunks) - surplus :]
            self.num_rows = num_rows

    def flush(self) -> None:
        """Writes the zarr shard that is being filled, if it holds anything."""
        if not self.chunks:
            return
        number = self.range.first_shard + (self.num_rows - 1) // SLICES_PER_ZARR_SHARD
        self.objects.put_new(shard_name(number), encode_shard(self.chunks, self.recipe, self.codec))
        self.chunks.clear()


def build_part(job: PartJob, on_slices: Callable[[int], None] = lambda _: None) -> PartReport:
    """Builds and commits one part, unless it is committed already."""
    torch.set_num_threads(1)
    builder = _PartBuilder(job, on_slices)
    try:
        for recording in job.recordings.iter_rows(named=True):
            builder.add(recording)
        builder.commit()
    except ObjectExistsError as error:
        return PartReport(part=job.range.part, conflict=str(error))
    return PartReport(part=job.range.part, num_slices=len(builder.rows[INDEX]))


class _PartBuilder:
    """Builds a part's recordings, one after the other, and collects the rows of its tables."""

    def __init__(self, job: PartJob, on_slices: Callable[[int], None]) -> None:
        self._job = job
        self._on_slices = on_slices
        self._intake = intake_of(job.recipe, job.remote)
        self._maker = slice_maker(job.recipe, job.filterbank_MF, job.channel)
        self._objects = open_objects(job.url, remote=job.remote)
        self._writer = ShardWriter(
            objects=self._objects, range=job.range, recipe=job.recipe, codec=job.codec
        )
        # in the order in which they are put
        self.rows: dict[str, list[Row]] = {RECORDINGS: [], REJECTS: [], INDEX: []}

    def commit(self) -> None:
        """Puts the last zarr shard, recordings and rejects, then the index, which is the commit."""
        self._writer.flush()
        for table, rows in self.rows.items():
            frame = pl.DataFrame(rows, SCHEMAS[table], orient="row")
            if table == RECORDINGS:
                frame = with_metadata(frame, self._job.metadata)
            self._objects.put_new(table_name(table, self._job.range.part), encode_table(frame))

    def add(self, recording: Row) -> None:
        """Stores one recording, or adds it to the rejects with the reason."""
        if recording["reason"]:
            self._reject(recording, recording["reason"])
        elif recording["duplicate_of"]:
            self._record(recording, status=DUPLICATE, duplicate_of=recording["duplicate_of"])
        else:
            self._store(recording)
        self._on_slices(recording["expected_slices"])

    def _store(self, recording: Row) -> None:
        with ExitStack() as stack:
            try:
                path = stack.enter_context(self._intake.open(recording["path"]))
            except ObjectMissingError:
                return  # deleted since the plan was made; the next round notices
            self._cut(recording, path)

    def _cut(self, recording: Row, path: Path) -> None:
        num_rows = self._writer.num_rows
        try:
            # Hashed again, though it was for the plan: a file that has changed since must not be
            # stored under the old hash. The next round of the build plans it again.
            if self._intake.content_hash(path) != recording["content_hash"]:
                return
            if recording.get("first_row") is not None:
                self._writer.fill_to(recording["first_row"])
            medium, slices = self._maker.open(path)
            rows = self._slices(recording["recording_id"], slices)
        except (StoreError, ObjectExistsError):
            raise  # an error of the store, not of the recording
        except (AudioError, OSError) as error:
            self._reject(recording, str(error))
            return
        except PartFullError:  # planned again, after the last part
            self._writer.rewind(num_rows)
            return
        self.rows[INDEX].extend(rows)
        problem, header = medium.problem, medium.header
        self._record(
            recording,
            status=PARTIAL if problem else STORED,
            first_row=rows[0]["row"],
            num_slices=len(rows),
            duration_s=medium.duration_s,
            sample_rate_hz=header.sample_rate_hz if header else None,
            num_channels=header.num_channels if header else None,
        )
        if problem:
            self._reject(recording, problem, partial=True)

    def _slices(self, recording_id: str, slices: Iterator[MadeSlice]) -> list[Row]:
        recipe = self._job.recipe
        return [
            {
                "row": self._writer.add(cells),
                "recording_id": recording_id,
                "slice_no": slice_no,
                "start_s": slice_no * recipe.step_samples / recipe.sample_rate_hz,
                **features,
                "crc32c": crc32c(cells),
            }
            for slice_no, (cells, features) in enumerate(slices)
        ]

    def _record(self, recording: Row, **values: Any) -> None:
        row = {name: recording.get(name) for name in RECORDING_SCHEMA}
        row |= {"first_row": None, "num_slices": 0, "duplicate_of": None, **values}
        self.rows[RECORDINGS].append(row)

    def _reject(self, recording: Row, reason: str, *, partial: bool = False) -> None:
        row = {name: recording[name] for name in ("recording_id", "filename", "content_hash")}
        self.rows[REJECTS].append({**row, "reason": reason, "partial": partial})
