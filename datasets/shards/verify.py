"""Checks the integrity of a shard set by its checksums, and against its store."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from datasets.shards.format import HELD_SCHEMA, INDEX, LISTING, RECORDINGS, TARS, ShardManifest
from datasets.shards.shard_set import check_file, decode_set_table, index_problems, shard_numbers
from datasets.shards.state import PLAN
from storage.checksums import digest_file
from storage.errors import DamageError, StoreError
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.open import open_objects
from storage.objects.protocol import Objects
from storage.processes import num_cores
from storage.progress import Progress, silent
from storage.read.extents import RAW, ExtentReader, Extents
from storage.store import Store, open_store

BATCH = 256
_WRITE_AGAIN = "delete it and run tools.write_shards, which writes it again"
_GET_AGAIN = "get it again; if it is right as it is, run tools.index_shards"


@dataclass(slots=True, kw_only=True)
class ShardVerifyReport:
    """Result of a check: counts, damage, and notes on harmless differences."""

    url: str
    num_shards: int = 0
    num_slices: int = 0
    damage: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Formats counts, then each finding on a line."""
        head = (
            f"{self.url}: {self.num_slices:,} slices in {self.num_shards:,} shards checked: "
            f"{len(self.damage):,} damaged, {len(self.notes):,} notes"
        )
        lines = [f"  DAMAGE {text}" for text in self.damage]
        return "\n".join([head, *lines, *(f"  note {text}" for text in self.notes)])


def verify_shards(
    url: str, store_url: str | None, progress: Progress = silent, remote: RemoteConfig = DEFAULT
) -> ShardVerifyReport:
    """Checks every file and every slice of a shard set; raises StoreError where there is none.

    Without a store, as for tars of other programs, only the set's checksums are checked.
    """
    report = ShardVerifyReport(url=url)
    objects = open_objects(url, LISTING, remote=remote)
    manifest = ShardManifest.read(objects)
    report.num_shards = len(manifest.shards)
    for name in (INDEX, RECORDINGS):
        report.damage += _file_problems(objects, name, manifest)
    index = pl.DataFrame(schema=HELD_SCHEMA)
    if not report.damage:
        index = _read_index(objects, manifest, report)
    groups = index.partition_by("shard", as_dict=True)
    with (
        progress("checking shards", report.num_shards, "shard") as step,
        ThreadPoolExecutor(num_cores()) as threads,  # hashing leaves Python's lock
    ):
        lines = [groups.get((name,), index[:0]) for name in manifest.shards]
        check = partial(_shard_problems, objects, manifest)
        for problems in threads.map(check, manifest.shards, lines):
            report.damage += problems
            step(1)
    report.notes += _notes(objects, manifest, index)
    if store_url is not None and len(index):
        with open_store(store_url, remote) as store:
            _compare(store, manifest, index, report)
    return report


def _read_index(
    objects: Objects, manifest: ShardManifest, report: ShardVerifyReport
) -> pl.DataFrame:
    """Reads the side index; one that breaks its rule is reported, and has no lines."""
    try:
        decode_set_table(objects, RECORDINGS, objects.get(RECORDINGS))
        index = decode_set_table(objects, INDEX, objects.get(INDEX))
    except DamageError as error:
        report.damage.append(str(error))
        return pl.DataFrame(schema=HELD_SCHEMA)
    report.damage += index_problems(objects, manifest, index, shard_numbers(manifest, index))
    report.num_slices = len(index)
    return index


def _file_problems(
    objects: Objects, name: str, manifest: ShardManifest, copy: Path | None = None
) -> list[str]:
    """Checks size and sha256 of a file, or of a local `copy` of it; returns the problem."""
    where, entry = objects.describe(name), manifest.files[name]
    try:
        check_file(objects, name, entry)
        if (digest_file(copy) if copy else objects.digest(name)) == entry.sha256:
            return []
    except DamageError as error:
        return [str(error)]
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        return [f"{where} cannot be read ({error.strerror})"]
    way_out = _GET_AGAIN if manifest.store_id.startswith(TARS) else _WRITE_AGAIN
    return [f"{where} differs from its checksum (sha256): {way_out}"]


def _shard_problems(
    objects: Objects, manifest: ShardManifest, name: str, lines: pl.DataFrame
) -> list[str]:
    """Checks the tar as a file, then each slice by the checksum in the side index."""
    if not objects.exists(name):
        return _file_problems(objects, name, manifest)
    with objects.as_file(name) as path:
        problems = _file_problems(objects, name, manifest, path)
        bad = _bad_slices(path, manifest.recipe.slice_bytes, lines)
    if bad:
        row, reason = bad[0]
        problems.append(
            f"{objects.describe(name)}: {len(bad):,} of its slices are bad, row {row} first: "
            f"{reason}"
        )
    return problems


def _bad_slices(path: Path, slice_bytes: int, lines: pl.DataFrame) -> list[tuple[int, str]]:
    """Returns row and reason of slices that differ from their checksums."""
    lines = lines.filter(pl.col("length") == slice_bytes)
    cells = np.empty((BATCH, slice_bytes), np.uint8)
    bad: list[tuple[int, str]] = []
    with ExtentReader() as reader:
        for part in lines.iter_slices(BATCH):
            extents = Extents(
                objects=(str(path),),
                object_no=np.zeros(len(part), np.int32),
                offset=part["offset"].to_numpy(),
                length=part["length"].to_numpy(),
                crc32c=part["crc32c"].to_numpy(),
                codecs=(RAW,),
            )
            found = reader.try_read(extents, cells[: len(part)])
            bad += [(part["row"][one.position], one.reason) for one in found]
    return bad


def _notes(objects: Objects, manifest: ShardManifest, index: pl.DataFrame) -> Iterator[str]:
    """Yields leftovers: harmless here, but read by programs that take all tars."""
    for name in objects.entries():
        if name.endswith(".tar") and name not in manifest.shards:
            yield f"{objects.describe(name)} is no shard of this set"
    if objects.exists(PLAN):
        yield "a run of tools.write_shards was interrupted: run it again and it goes on"
    num_dead = sum(entry.num_slices for entry in manifest.shards.values()) - len(index)
    if num_dead > 0 and len(index):
        yield f"{num_dead:,} slices in the tars are not in the index"


def _compare(
    store: Store, manifest: ShardManifest, index: pl.DataFrame, report: ShardVerifyReport
) -> None:
    """Compares the set with its store, slice by slice."""
    if store.store_id != manifest.store_id:
        report.notes.append(f"not held against {store.url}: they come from elsewhere")
        return
    there = store.slice_index().select("row", "crc32c")
    both = index.select("row", "crc32c").join(there, on="row", how="left", suffix="_store")
    differ = both.filter(pl.col("crc32c") != pl.col("crc32c_store"))
    gone = int(both["crc32c_store"].null_count())
    if len(differ):
        report.damage.append(f"{len(differ)} slices differ from the store: write them again")
    if gone or len(both) < len(there):
        report.notes.append(
            f"{gone:,} of its slices have left the store, which has {len(there):,}: write it "
            "again to bring it up to date"
        )
