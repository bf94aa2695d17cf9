"""Holds a shard set against its own checksums, and against the store that it was written from."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from datasets.shard_format import ShardManifest
from datasets.shard_index import ShardSet, open_shards
from storage.errors import StoreError
from storage.extents import ExtentReader
from storage.objects import digest_file, open_objects
from storage.progress import Progress, silent
from storage.store import open_store

BATCH = 256


@dataclass(slots=True, kw_only=True)
class ShardVerifyReport:
    """What was looked at, and what was found."""

    url: str
    num_shards: int = 0
    num_slices: int = 0
    damage: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Counts, then each finding on a line."""
        head = (
            f"{self.url}: {self.num_slices:,} slices in {self.num_shards:,} shards checked: "
            f"{len(self.damage):,} damaged, {len(self.notes):,} notes"
        )
        lines = [f"  DAMAGE {text}" for text in self.damage]
        return "\n".join([head, *lines, *(f"  note {text}" for text in self.notes)])


def verify_shards(url: str, store_url: str, progress: Progress = silent) -> ShardVerifyReport:
    """Checks every file and every slice of a shard set; raises StoreError where there is none."""
    report = ShardVerifyReport(url=url)
    objects = open_objects(url)
    manifest = ShardManifest.read(objects)
    report.num_shards = len(manifest.shards)
    with progress("checking shards", report.num_shards, "shard") as step:
        for name, entry in manifest.files.items():
            path = objects.path(name)
            if not path.is_file():
                report.damage.append(f"{path} is missing")
            elif path.stat().st_size != entry.size_bytes:
                report.damage.append(f"{path} has not {entry.size_bytes:,} bytes")
            elif digest_file(path) != entry.sha256:
                report.damage.append(f"{path} differs from its checksum (sha256)")
            step(name.endswith(".tar"))
    if not report.damage:
        _check_slices(open_shards(url), store_url, report)
    return report


def _check_slices(shards: ShardSet, store_url: str, report: ShardVerifyReport) -> None:
    index = shards.slice_index()
    rows = index["row"].to_numpy()
    report.num_slices = len(rows)
    cells = np.empty((BATCH, *shards.recipe.slice_shape), shards.recipe.dtype)
    with ExtentReader() as reader:
        for start in range(0, len(rows), BATCH):
            extents = shards.extents(rows[start : start + BATCH])
            for bad in reader.try_read(extents, cells[: len(extents)]):
                row = rows[start + bad.position]
                report.damage.append(f"{bad.object}, row {row}: {bad.reason}")
    try:
        store = open_store(store_url)
    except StoreError as error:
        report.notes.append(f"not held against a store: {error}")
        return
    if store.store_id != shards.store_id:
        report.notes.append(f"not held against {store_url}: it was written from another store")
        return
    both = index.select("row", "crc32c").join(
        store.slice_index().select("row", "crc32c"), on="row", how="left", suffix="_store"
    )
    differ = both.filter(pl.col("crc32c") != pl.col("crc32c_store"))
    stale = int(both["crc32c_store"].null_count())
    if len(differ):
        report.damage.append(f"{len(differ)} slices differ from the store's")
    if stale or len(both) < len(store.slice_index()):
        report.notes.append(
            f"{stale:,} of its slices have left the store, which has "
            f"{len(store.slice_index()):,}: write it again to bring it up to date"
        )
