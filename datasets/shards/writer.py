"""Writes a source of slices as plain tar shards, or brings a set up to date. Safe to kill.

    report = write_shards(open_store("data/store"), "data/shards", ShardConfig())

A recording that is held unchanged keeps its shard; a new or changed one goes into a new shard; the
lines of a removed one leave the side index (its bytes stay in the tar); for new labels only
`recordings.parquet` is rewritten. A shard that is missing or has another size is written again
under its name.

Order of writing: the plan (`unfinished/plan.json`); each tar and then its record, by worker
processes; the next manifest in `unfinished/`, the tables and, as the commit, `shards.json`; then
`unfinished/` is deleted. Each file appears atomically and is durable before the next step. A run
killed before the tables leaves the set as it was, with tars that are not in the index; killed
between them, a set that is refused as stale. The next run finishes the work with the bytes of an
uninterrupted run, for any number of workers. Recorded tars are kept where recordings have changed.

Several processes may each write a share of the tars (`write_shards.part`): they find the same plan,
and the one that finds all tars recorded commits the set.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import polars as pl

from datasets.shards import state
from datasets.shards.encode import ShardJob, WrittenShard, write_shard
from datasets.shards.format import (
    HELD_SCHEMA,
    INDEX,
    LABEL_HASH,
    MANIFEST,
    PLACE_SCHEMA,
    RECORDINGS,
    TARS,
    FileEntry,
    ShardManifest,
    identity_of,
    label_hashes,
)
from datasets.shards.plan import Wanted, WritePlan, plan_writing
from datasets.shards.reindex import scan_held
from datasets.shards.report import ShardReport, report_share
from datasets.shards.state import Held
from datasets.slice_source import SliceSource, select_recordings, source_classes
from storage.errors import ConfigError, ObjectExistsError, StoreError
from storage.format.classes import put_classes
from storage.objects.lock import builder_lock, last_lock, share_lock
from storage.objects.open import open_objects
from storage.objects.protocol import Objects
from storage.options import check_at_least, check_between, option
from storage.processes import Work, map_jobs, num_cores
from storage.progress import Progress, silent
from storage.share import Share, parse_share

WORK = Work(run=write_shard, module="datasets.shards.encode", option="write_shards.workers")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardConfig:
    """Config of writing shards."""

    shard_size_bytes: int = option(128_000_000, "size of a shard, about, bytes")
    where: str | None = option(None, "SQL condition on recordings, such as rating >= 3")
    workers: int | None = option(None, "processes, each with one shard in memory; default: cores")
    fresh: bool = option(False, "rewrite all shards, replacing those in the folder")
    max_drop_share: float = option(0.5, "refuse to drop more than this share of the set, 0 to 1")
    part: str | None = option(
        None, "share of this process, such as 3/16 of sixteen that write together; null: all"
    )

    def __post_init__(self) -> None:
        check_at_least(self, "write_shards", 1, "workers", "shard_size_bytes")
        check_between(self, "write_shards", 0, 1, "max_drop_share")
        if self.share and self.fresh:
            raise ConfigError(
                f"write_shards.fresh=true with write_shards.part={self.part}: a share that ends "
                "late would discard what the others have written; give a new folder"
            )

    @property
    def share(self) -> Share | None:
        """Share of this process in the work; None for all of it."""
        return parse_share("write_shards.part", self.part)


def write_shards(
    source: SliceSource,
    target: str,
    config: ShardConfig,
    *,
    limit: int | None = None,
    progress: Progress = silent,
) -> ShardReport:
    """Writes, resumes, repairs or updates the shard set in the folder `target`.

    Raises ConfigError where the folder holds anything else, or a set of another store, and
    DamageError where a slice of the source cannot be read.
    """
    recordings = select_recordings(source.recordings(), where=config.where, limit=limit)
    objects = open_objects(target, remote=source.remote)
    state.check_target(objects)
    wanted = Wanted.of(recordings, source.slice_index(), source.url)
    run = _Run(source=source, objects=objects, config=config, wanted=wanted, progress=progress)
    if config.share is not None:
        return run.write_share(config.share)
    with builder_lock(objects):
        objects.clear_temporary()
        held, plan = run.begin()
        return run.finish(held, plan, run.write(plan, [*plan.shards]))


@dataclass(slots=True, kw_only=True)
class _Run:
    """Run of the writer on one folder."""

    source: SliceSource
    objects: Objects
    config: ShardConfig
    wanted: Wanted
    progress: Progress
    num_dropped: int = 0
    records: dict[str, WrittenShard] = field(default_factory=dict)

    def begin(self) -> tuple[Held, WritePlan]:
        """Reads the existing shards, plans the run and records the plan."""
        earlier = state.read_plan(self.objects)
        manifest = state.read_manifest(self.objects)
        self._check_identity(earlier, manifest)
        if self.config.fresh:
            earlier, manifest = self._give_up(earlier, manifest)
        held = Held() if manifest is None else self._read_held(manifest)
        self.records = state.read_records(self.objects)
        for name in {*earlier.get("claimed", [])} - {*self.records}:
            self.objects.delete(name)  # written without a record
        plan, digest = self._plan(held)
        if self.records and earlier.get("plan") != digest:  # recordings changed meanwhile
            if self.config.fresh:
                state.delete_records(self.objects, self.records)
            else:
                held = held.with_records(self.records)
            self.records = {}
            plan, digest = self._plan(held)
        if plan.shards:
            state.put_plan(self.objects, self._identity, digest, claimed=[*plan.shards])
        return held, plan

    def write_share(self, share: Share) -> ShardReport:
        """Writes the shards of a share, and commits the set if no others are left."""
        with share_lock(self.objects):
            held, plan = self._begin_share()
            done = self.write(plan, share.of([*plan.shards]))
        new_shards = len(done.keys() - self.records.keys())
        with last_lock(self.objects) as is_last:
            written = self._records_of(plan)
            if len(written) < len(plan.shards):
                held, plan = self._look_again(held, plan)
                written = written if plan.shards else {}
            num_left = len(plan.shards) - len(written)
            if num_left or not is_last:
                return report_share(self.objects.url, share, new_shards, num_left)
            self.objects.clear_temporary()
            report = self.finish(held, plan, written)
        return replace(report, new_shards=new_shards)

    def _begin_share(self) -> tuple[Held, WritePlan]:
        """Plans the run as writers of other shares do; StoreError where another one is planned."""
        earlier = state.read_plan(self.objects)
        manifest = state.read_manifest(self.objects)
        self._check_identity(earlier, manifest)
        held = Held() if manifest is None else self._read_held(manifest)
        plan, digest = self._plan(held, claimed=earlier.get("claimed", []))
        if plan.shards:
            try:
                state.put_plan(self.objects, self._identity, digest, [*plan.shards], is_new=True)
            except ObjectExistsError as error:
                raise StoreError(
                    f"another writing of {self.objects.url} is unfinished, of other recordings or "
                    "with another write_shards.shard_size_bytes: end it without write_shards.part"
                ) from error
        self.records = self._records_of(plan)
        return held, plan

    def _records_of(self, plan: WritePlan) -> dict[str, WrittenShard]:
        """The records of shards with the very slices that are planned."""
        records = state.read_records(self.objects)
        rows = self.wanted.lines["row"]
        return {
            name: records[name]
            for name, numbers in plan.shards.items()
            if name in records
            and records[name].index["row"].equals(rows[self.wanted.line_numbers(numbers)])
        }

    def _look_again(self, held: Held, plan: WritePlan) -> tuple[Held, WritePlan]:
        """The plan, or an empty one where another writer has committed all of it meanwhile."""
        manifest = state.read_manifest(self.objects)
        if manifest is None:
            return held, plan
        held_now = self._read_held(manifest)
        plan_now, _ = self._plan(held_now)
        return (held, plan) if plan_now.shards else (held_now, plan_now)

    def write(self, plan: WritePlan, names: Sequence[str]) -> dict[str, WrittenShard]:
        """Writes those of these shards of the plan that have no record."""
        left = [name for name in names if name not in self.records]
        jobs = {name: partial(self._job, plan, name) for name in left}
        written = {name: done for name, done in self.records.items() if name in names}
        total = sum(len(self.wanted.line_numbers(plan.shards[name])) for name in names)
        with self.progress("shards", total, "slices") as step:
            for done in written.values():
                step(done.entry.num_slices)
            written |= dict(map_jobs(WORK, jobs, self._workers, step))
        return written

    @property
    def _identity(self) -> str:
        return identity_of(self.source.store_id, self.source.recipe)

    def _check_identity(self, earlier: dict[str, Any], manifest: ShardManifest | None) -> None:
        """Raises ConfigError on a set, committed or begun, of another source or recipe."""
        url = self.objects.url
        if manifest is not None and manifest.store_id.startswith(TARS):
            raise ConfigError(
                f"shards={url} are tars made elsewhere (tools.index_shards): give a new folder"
            )
        if self.config.fresh:
            return
        if manifest is not None and manifest.recipe != self.source.recipe:
            difference = self.source.recipe.difference(manifest.recipe)
            raise ConfigError(
                f"shards={url} has slices of another recipe ({difference}): give a new folder, or "
                "write_shards.fresh=true to rewrite it"
            )
        identity = earlier.get("identity", self._identity)
        if manifest is not None:
            identity = manifest.identity
        if identity != self._identity:
            raise ConfigError(
                f"shards={url} was written from another store ({identity.split()[0]}) than "
                f"{self.source.url} ({self.source.store_id}): give a new folder, or "
                "write_shards.fresh=true to rewrite it"
            )

    def _give_up(
        self, earlier: dict[str, Any], manifest: ShardManifest | None
    ) -> tuple[dict[str, Any], None]:
        """Discards a committed set, for `fresh`; an unfinished one is resumed."""
        if manifest is None:
            return earlier, None
        claimed = [*manifest.shards, *earlier.get("claimed", [])]
        state.clear_records(self.objects)
        state.put_plan(self.objects, self._identity, "", claimed)
        for name in (MANIFEST, INDEX, RECORDINGS):
            self.objects.delete(name)
        return state.read_plan(self.objects), None

    def _read_held(self, manifest: ShardManifest) -> Held:
        """Reads the committed shards; raises ConfigError where too many would be dropped."""
        known = state.read_held(self.objects, manifest, RECORDINGS, ["recording_id"])
        have = pl.Series([], dtype=pl.String) if known is None else known["recording_id"]
        wanted = self.wanted.recordings["recording_id"]
        self.num_dropped = int((~have.is_in(wanted.implode())).sum())
        if self.num_dropped > self.config.max_drop_share * len(have):
            raise ConfigError(
                f"{self.num_dropped:,} of the {len(have):,} recordings in shards="
                f"{self.objects.url} are not wanted now; more than write_shards.max_drop_share="
                f"{self.config.max_drop_share:g} are dropped only when told so: check store, "
                "where and limit, or give a new folder"
            )
        lines = state.read_held(self.objects, manifest, INDEX, [*HELD_SCHEMA])
        if lines is None:
            lines = scan_held(self.objects, manifest, self._workers, self.progress)
        return Held(entries=manifest.shards, lines=lines)

    def _plan(self, held: Held, claimed: Sequence[str] = ()) -> tuple[WritePlan, str]:
        """The plan and its digest; shards that are claimed are written, finished or not."""

        def stays(name: str, entry: FileEntry) -> bool:
            return name not in claimed and state.is_complete(self.objects, name, entry)

        plan = plan_writing(
            self.wanted,
            held,
            stays,
            slice_bytes=self.source.recipe.slice_bytes,
            shard_size_bytes=self.config.shard_size_bytes,
        )
        return plan, plan.digest(self.wanted, self._identity)

    def _job(self, plan: WritePlan, name: str) -> ShardJob:
        numbers = plan.shards[name]
        lines = self.wanted.lines[self.wanted.line_numbers(numbers)]
        return ShardJob(
            url=self.objects.url,
            remote=self.objects.remote_config,
            name=name,
            recipe=self.source.recipe,
            store_id=self.source.store_id,
            recordings=self.wanted.recordings[numbers],
            lines=lines,
            extents=self.source.extents(lines["row"].to_numpy()),
        )

    @property
    def _workers(self) -> int:
        return self.config.workers or num_cores()

    def finish(self, held: Held, plan: WritePlan, written: dict[str, WrittenShard]) -> ShardReport:
        """Commits the set and reports it."""
        recordings, lines = self.wanted.recordings, self.wanted.lines
        new = [shard.index.select(*HELD_SCHEMA) for shard in written.values()]
        places = pl.concat([plan.kept, *new]).sort("row").drop("crc32c")
        if not places["row"].equals(lines["row"]):
            raise StoreError(f"{self.source.url} has changed meanwhile: write its shards again")
        index = pl.concat(
            [places.select(*PLACE_SCHEMA), lines, places.select(LABEL_HASH)], how="horizontal"
        ).sort("shard", "offset")
        entries = {
            name: entry
            for name, entry in held.entries.items()
            if name not in written and state.is_complete(self.objects, name, entry)
        }
        entries |= {name: shard.entry for name, shard in written.items()}
        manifest = ShardManifest(
            store_id=self.source.store_id,
            recipe=self.source.recipe,
            files=dict(sorted(entries.items())),
        )
        put_classes(self.objects, source_classes(self.source))
        state.commit(self.objects, manifest, index, recordings)
        written_as = places[LABEL_HASH][self.wanted.starts]
        return ShardReport(
            url=self.objects.url,
            num_shards=len(entries),
            num_recordings=len(recordings),
            num_slices=len(lines),
            size_bytes=sum(entry.size_bytes for entry in entries.values()),
            new_shards=len(written.keys() - self.records.keys()),
            num_dropped=self.num_dropped,
            num_dead=sum(entry.num_slices for entry in entries.values()) - len(lines),
            num_relabelled=int((written_as != label_hashes(recordings)).sum()),
        )
