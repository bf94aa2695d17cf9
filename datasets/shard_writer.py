"""Writes a source of slices as plain tar shards. Safe to kill at any time.

    report = write_shards(open_store("data/store"), "data/shards", ShardConfig())

The recordings, in order, are cut into shards of about equal size; each shard is made whole in
memory, put under its name at once, and then noted in `unfinished/`. A killed run goes on behind
the last note; `shards.json` comes last. Equal input gives equal bytes.
"""

import hashlib
import io
import json
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from datasets.shard_encode import encode_shard
from datasets.shard_format import (
    INDEX,
    MANIFEST,
    RECORDINGS,
    TAR_BLOCK_BYTES,
    FileEntry,
    ShardManifest,
    padded,
    shard_name,
)
from datasets.slice_source import SliceSource, select_recordings
from storage.builder_lock import builder_lock
from storage.errors import ConfigError
from storage.objects import TEMPORARY, LocalObjects, digest, open_objects
from storage.options import option
from storage.progress import Progress, Step, silent
from storage.tables import encode_table

UNFINISHED = "unfinished"
PLAN = f"{UNFINISHED}/plan.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardConfig:
    """How slices are put into shards."""

    shard_size_bytes: int = option(128_000_000, "size of a shard, about, bytes")
    where: str | None = option(None, "SQL condition on recordings, such as rating >= 3")

    def __post_init__(self) -> None:
        if self.shard_size_bytes < 1:
            raise ConfigError(f"shard_size_bytes={self.shard_size_bytes} must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """What a shard set holds, and how much of it this run wrote."""

    url: str
    num_shards: int
    num_recordings: int
    num_slices: int
    size_bytes: int
    new_shards: int

    def summary(self) -> str:
        """One line for a person."""
        return (
            f"{self.url}: {self.num_slices:,} slices of {self.num_recordings:,} recordings in "
            f"{self.num_shards:,} shards, {self.size_bytes / 1e6:,.1f} MB; "
            f"{self.new_shards:,} shards newly written"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Written:
    """A shard that is there: its entry, and its lines of the side index."""

    entry: FileEntry
    index: pl.DataFrame


def write_shards(
    source: SliceSource,
    target: str,
    config: ShardConfig,
    *,
    limit: int | None = None,
    progress: Progress = silent,
) -> ShardReport:
    """Writes, finishes or mends the shard set in the folder `target`.

    Raises ConfigError where the folder holds anything else, or a set with other content, and
    DamageError where a slice of the source cannot be read.
    """
    recordings = select_recordings(source.recordings(), where=config.where, limit=limit)
    objects = open_objects(target)
    _check_target(objects)
    with builder_lock(objects):
        objects.clear_temporary()
        run = _Run(
            source=source,
            objects=objects,
            shards=plan_shards(recordings, source.recipe.slice_bytes, config.shard_size_bytes),
            plan=_plan_digest(source, recordings, config),
        )
        known = run.begin()
        with progress("shards", int(recordings["num_slices"].sum()), "slices") as step:
            written = [run.finish(number, known, step) for number in range(len(run.shards))]
        manifest = run.commit(written, recordings)
    sizes = [entry.size_bytes for entry in manifest.shards.values()]
    return ShardReport(
        url=target,
        num_shards=len(sizes),
        num_recordings=len(recordings),
        num_slices=sum(entry.num_slices for entry in manifest.shards.values()),
        size_bytes=sum(sizes),
        new_shards=len(sizes) - len(known),
    )


def plan_shards(
    recordings: pl.DataFrame, slice_bytes: int, shard_size_bytes: int
) -> list[pl.DataFrame]:
    """The recordings of each shard: whole recordings, in order, as many as fit, at least one."""
    sample_bytes = padded(slice_bytes) + 4 * TAR_BLOCK_BYTES  # headers, .npy header, .json
    ends = np.cumsum(recordings["num_slices"].to_numpy().astype(np.int64)) * sample_bytes
    shards, first, filled = [], 0, 0
    while first < len(ends):
        last = int(np.searchsorted(ends, filled + shard_size_bytes, side="right"))
        last = max(last, first + 1)
        shards.append(recordings[first:last])
        first, filled = last, int(ends[last - 1])
    return shards


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run of the writer on one folder."""

    source: SliceSource
    objects: LocalObjects
    shards: list[pl.DataFrame]
    plan: str

    def begin(self) -> dict[str, _Written]:
        """The shards that are there already, whole; raises ConfigError if they are others."""
        found: dict[str, _Written] = {}
        if self.objects.exists(MANIFEST):
            found = self._committed()
        elif self.objects.exists(PLAN) and json.loads(self.objects.get(PLAN))["plan"] == self.plan:
            found = self._noted()
        else:
            self._clear_notes()
            for old in self.objects.root.glob("shard-*.tar"):
                old.unlink()
            self.objects.put(PLAN, json.dumps({"plan": self.plan}).encode())
        return {
            name: written
            for name, written in found.items()
            if self.objects.exists(name)
            and self.objects.path(name).stat().st_size == written.entry.size_bytes
        }

    def finish(self, number: int, known: dict[str, _Written], step: Step) -> _Written:
        """Writes one shard unless it is known."""
        name = shard_name(number)
        if name in known:
            step(known[name].entry.num_slices)
            return known[name]
        data, index = encode_shard(self.source, self.shards[number], name, step)
        entry = FileEntry(size_bytes=len(data), sha256=digest(data), num_slices=len(index))
        self.objects.put(name, data)
        self.objects.put(f"{UNFINISHED}/{name}.parquet", encode_table(index))
        self.objects.put(f"{UNFINISHED}/{name}.json", json.dumps(asdict(entry)).encode())
        return _Written(entry=entry, index=index)

    def commit(self, written: list[_Written], recordings: pl.DataFrame) -> ShardManifest:
        """Puts the tables and, last, `shards.json`."""
        files = {shard_name(number): shard.entry for number, shard in enumerate(written)}
        tables = {INDEX: pl.concat([shard.index for shard in written]), RECORDINGS: recordings}
        for name, table in tables.items():
            data = encode_table(table)
            self.objects.put(name, data)
            files[name] = FileEntry(size_bytes=len(data), sha256=digest(data))
        manifest = ShardManifest(
            store_id=self.source.store_id, recipe=self.source.recipe, plan=self.plan, files=files
        )
        self.objects.put(MANIFEST, manifest.encode())
        self._clear_notes()
        self.objects.path(TEMPORARY).rmdir()
        return manifest

    def _committed(self) -> dict[str, _Written]:
        manifest = ShardManifest.read(self.objects)
        if manifest.plan != self.plan:
            raise ConfigError(
                f"shards={self.objects.url} was written from other recordings, labels or options "
                "than now: give a new folder, or delete this one to write it again"
            )
        data = self.objects.get(INDEX)
        if digest(data) != manifest.files[INDEX].sha256:
            return {}
        groups = pl.read_parquet(io.BytesIO(data)).partition_by("shard", as_dict=True)
        return {
            name: _Written(entry=entry, index=groups[(name,)])
            for name, entry in manifest.shards.items()
        }

    def _noted(self) -> dict[str, _Written]:
        return {
            name: _Written(
                entry=FileEntry(**json.loads(self.objects.get(f"{UNFINISHED}/{name}.json"))),
                index=pl.read_parquet(io.BytesIO(self.objects.get(f"{UNFINISHED}/{name}.parquet"))),
            )
            for name in (shard_name(number) for number in range(len(self.shards)))
            if self.objects.exists(f"{UNFINISHED}/{name}.json")
        }

    def _clear_notes(self) -> None:
        for name in self.objects.list(UNFINISHED):
            self.objects.delete(name)
        folder = self.objects.path(UNFINISHED)
        if folder.is_dir():
            folder.rmdir()


def _plan_digest(source: SliceSource, recordings: pl.DataFrame, config: ShardConfig) -> str:
    """32 hex digits of everything that the tars depend on, apart from the cells themselves."""
    columns = ("recording_id", "first_row", "num_slices", "primary_label", "secondary_labels")
    hasher = hashlib.blake2b(digest_size=16)
    text = (source.store_id, source.recipe.digest(), str(config.shard_size_bytes))
    hasher.update("\n".join(text).encode())
    hasher.update(recordings.select(*columns, "filename").write_ndjson().encode())
    return hasher.hexdigest()


def _check_target(objects: LocalObjects) -> None:
    """Raises ConfigError on a folder that holds something else."""
    root = objects.root
    if root.exists() and not root.is_dir():
        raise ConfigError(f"shards={objects.url} is a file; give a folder")
    if not root.is_dir() or objects.exists(MANIFEST) or objects.exists(PLAN):
        return
    foreign = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    if foreign:
        raise ConfigError(
            f"shards={objects.url} is not empty and not a shard set (it holds {foreign[0]}): "
            "give a new folder"
        )
