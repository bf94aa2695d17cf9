"""Writes one shard: its slices as a tar, and a record of their offsets.

Light to import, and a job carries all that it needs: workers never open the source. The tar is
built in memory and put in one step; then its record, of which the .json comes last.
"""

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from datasets.shards.format import (
    ABOUT_RECORDING,
    LABEL_HASH,
    FileEntry,
    describe_sample,
    label_hash,
    npy_header,
    padded,
    pax_header,
    sample_key,
)
from storage.checksums import digest
from storage.errors import DamageError
from storage.format.tables import encode_table
from storage.objects.client import RemoteConfig
from storage.objects.open import open_objects
from storage.processes import OnProgress
from storage.read.extents import Extents
from storage.read.slice_reader import SliceReader
from storage.recipe import Recipe

UNFINISHED = "unfinished"
_BATCH_SLICES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """Job to write a shard: its recordings, the lines of its slices, and their extents."""

    url: str
    remote: RemoteConfig
    name: str
    recipe: Recipe
    store_id: str
    recordings: pl.DataFrame
    lines: pl.DataFrame
    extents: Extents


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WrittenShard:
    """Written shard: its entry in `shards.json`, and its lines of the side index."""

    entry: FileEntry
    index: pl.DataFrame


def record_names(shard: str) -> tuple[str, str]:
    """Returns the file names of a shard's record: its lines, and its entry, put last."""
    return f"{UNFINISHED}/{shard}.parquet", f"{UNFINISHED}/{shard}.json"


def write_shard(job: ShardJob, on_slices: OnProgress) -> WrittenShard:
    """Puts one tar and its record; raises DamageError on a slice that cannot be read."""
    data, index = encode_shard(job, on_slices)
    entry = FileEntry(size_bytes=len(data), sha256=digest(data), num_slices=len(index))
    objects = open_objects(job.url, remote=job.remote)
    lines, last = record_names(job.name)
    objects.delete(last)  # of an earlier tar of this name
    objects.put(job.name, data)
    objects.put(lines, encode_table(index))
    objects.put(last, json.dumps(asdict(entry)).encode())
    return WrittenShard(entry=entry, index=index)


def encode_shard(job: ShardJob, on_slices: OnProgress) -> tuple[bytes, pl.DataFrame]:
    """Encodes a shard as the bytes of a tar, and its lines of the side index."""
    recordings = job.recordings.select(ABOUT_RECORDING).to_dicts()
    by_id = {line["recording_id"]: line for line in recordings}
    if unknown := set(job.lines["recording_id"]) - by_id.keys():
        raise DamageError(
            f"the index has slices of {min(unknown)!r} in the place of a recording's: run "
            "tools.verify on the store"
        )
    header = npy_header(job.recipe)
    member_bytes = padded(len(header) + job.recipe.slice_bytes)
    offsets = []
    buffer = io.BytesIO()
    head = pax_header(job.recipe, job.store_id)
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers=head) as tar:
        for line, cells in _read_slices(job, on_slices):
            recording_id = line["recording_id"]
            key = sample_key(recording_id, line["slice_no"])
            for ending, data in (
                ("json", describe_sample(by_id[recording_id], line)),
                ("mel.npy", header + cells),  # last, since its offset follows from the end
            ):
                tar.addfile(_member(f"{key}.{ending}", len(data)), io.BytesIO(data))
            offsets.append(tar.offset - member_bytes + len(header))
    hashes = {name: label_hash(labels) for name, labels in by_id.items()}
    index = job.lines.select(
        pl.lit(job.name).alias("shard"),
        pl.Series("offset", offsets, dtype=pl.Int64),
        pl.lit(job.recipe.slice_bytes, pl.Int64).alias("length"),
        pl.all(),
        pl.col("recording_id").replace_strict(hashes, return_dtype=pl.UInt64).alias(LABEL_HASH),
    )
    return buffer.getvalue(), index


def _member(name: str, size_bytes: int) -> tarfile.TarInfo:
    """Builds a member without time or owner, so that equal tars have equal bytes."""
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    info.mode = 0o444
    info.uname = info.gname = "melbank"
    return info


def _read_slices(job: ShardJob, on_slices: OnProgress) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yields the lines of the shard, each with the cells of its slice."""
    with SliceReader(job.remote) as reader:
        for start in range(0, len(job.lines), _BATCH_SLICES):
            lines = job.lines[start : start + _BATCH_SLICES]
            out = np.empty((len(lines), *job.recipe.slice_shape), job.recipe.dtype)
            reader.read(job.extents[start : start + _BATCH_SLICES], out)
            for line, cells in zip(lines.iter_rows(named=True), out, strict=True):
                yield line, cells.tobytes()
            on_slices(len(lines))
