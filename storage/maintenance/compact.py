"""Frees the space of what nobody reads: zarr shards without a live slice, leftovers of kills.

Rows are never renumbered, so a zarr shard goes only when all of its slices have.
"""

from dataclasses import dataclass

from storage.format.catalog import Catalog, check_indexes
from storage.format.manifest import Manifest
from storage.format.tables import INDEX, RECORDINGS, REJECTS, read_tables, table_name, table_numbers
from storage.format.zarr_shards import shard_name
from storage.maintenance.verify import live_shards, maintained, shard_numbers
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.open import open_objects
from storage.objects.urls import is_remote

BROKEN_UPLOADS = (
    "uploads in pieces that were broken off are in no listing, but are paid for: give the bucket a "
    "lifecycle rule that aborts incomplete multipart uploads after a day"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactReport:
    """Summary of what was deleted."""

    url: str
    num_objects: int
    size_bytes: int

    def summary(self) -> str:
        """One line for the user; another one about what no listing shows."""
        line = f"{self.url}: {self.num_objects:,} objects deleted, {self.size_bytes / 1e6:.1f} MB"
        return f"{line}\n{BROKEN_UPLOADS}" if is_remote(self.url) else line


def compact_store(url: str, remote: RemoteConfig = DEFAULT) -> CompactReport:
    """Deletes what no committed row needs; raises StoreError while a build is unfinished."""
    Manifest.read(open_objects(url, remote=remote))  # before a lock is put where no store is
    with maintained(url, "compact", remote) as objects:
        check_indexes(objects, Catalog.read(objects))
        parts = table_numbers(objects, INDEX)
        live = set(live_shards(read_tables(objects, INDEX, parts)))
        names = [shard_name(number) for number in shard_numbers(objects) if number not in live]
        for table in (RECORDINGS, REJECTS):
            left = set(table_numbers(objects, table)) - set(parts)
            names += [table_name(table, part) for part in sorted(left)]
        size_bytes = sum(objects.sizes(names).values())
        for name in names:
            objects.delete(name)
    return CompactReport(url=url, num_objects=len(names), size_bytes=size_bytes)
