"""Builds a store from a source, or brings an existing one up to date. Safe to kill at any time.

    report = build_store(SourceConfig(root="data"), Recipe(), "data/store", BuildConfig())

Rounds of: what is wanted and not yet committed -> a plan, written down -> parts, built by worker
processes, each committed by its index file. A killed build goes on with the plan that it finds.
"""

import hashlib
import math
import time
from dataclasses import dataclass, field

import polars as pl

from storage.audio.filterbank import mel_filterbank
from storage.build.dask import check_executor
from storage.build.plan import PartJob, expected_slices, part_ranges, part_slices, plan_parts
from storage.build.reconcile import check_drop, settle
from storage.build.report import BuildReport, report_build
from storage.build.workers import build_parts
from storage.errors import ConfigError, DamageError, ObjectExistsError, StoreError
from storage.format.catalog import Catalog, check_indexes
from storage.format.chunk_codecs import CODECS, DEFAULT_CODEC
from storage.format.classes import NAME as CLASSES
from storage.format.classes import encode_classes, put_classes, read_classes
from storage.format.manifest import NAME as MANIFEST
from storage.format.manifest import Manifest
from storage.format.state import StoreState, pending_recordings, read_parts
from storage.format.tables import (
    INDEX,
    PLANS,
    TABLES,
    encode_table,
    read_table,
    read_tables,
    table_name,
    table_numbers,
)
from storage.format.zarr_metadata import array_metadata, num_shards_of
from storage.format.zarr_shards import ARRAY_METADATA
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.copy_mark import check_not_half_copied
from storage.objects.lock import builder_lock
from storage.objects.open import open_objects
from storage.objects.protocol import Objects
from storage.options import check_at_least, check_between, check_choice, option
from storage.processes import num_cores
from storage.progress import Progress, silent
from storage.recipe import Recipe
from storage.source.copies import with_shared_labels
from storage.source.kinds import intake_of
from storage.source.probe import check_any_found, probe_recordings, probe_wanted
from storage.source.table import Source, SourceConfig

# A first round may fail on wrong headers; the next one counts slices by decoding.
MAX_ROUNDS_IN_VAIN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildConfig:
    """Settings of a build; `codec` changes the bytes of a new store, none changes its values."""

    executor: str = option("local", "local, or dask://HOST:PORT: a Dask cluster that is running")
    workers: int | None = option(None, "local worker processes; null: one per core")
    codec: str | None = option(
        None, "lz4: read fastest; zstd: a fifth smaller; null: the store's own, lz4 for a new one"
    )
    strict: bool = option(False, "exit 1 when any recording was rejected or stored in part")
    max_drop_share: float = option(0.5, "refuse to drop more than this share of the store, 0 to 1")

    def __post_init__(self) -> None:
        check_at_least(self, "build", 1, "workers")
        check_between(self, "build", 0, 1, "max_drop_share")
        check_executor(self.executor)
        if self.codec is not None:
            check_choice(self, "build", "codec", CODECS)


def build_store(
    source_config: SourceConfig,
    recipe: Recipe,
    url: str,
    config: BuildConfig,
    *,
    limit: int | None = None,
    progress: Progress = silent,
    remote: RemoteConfig = DEFAULT,
) -> BuildReport:
    """Builds or updates the store at `url`; `limit` takes a spread of that many recordings."""
    began = time.monotonic()
    build = open_build(
        source_config, recipe, url, config, limit=limit, progress=progress, remote=remote
    )
    with builder_lock(build.objects):
        build.objects.clear_temporary()
        num_dropped = build.begin()
        new_slices = build.run()
        build.objects.clear_temporary()  # of workers that were killed meanwhile
    return report_build(
        build.source,
        build.wanted,
        build.state,
        url=url,
        num_dropped=num_dropped,
        new_slices=new_slices,
        wall_s=time.monotonic() - began,
    )


@dataclass(slots=True, kw_only=True)
class Build:
    """One run of the builder on one store; `wanted` are the probed recordings it is to hold."""

    source: Source
    objects: Objects
    recipe: Recipe
    config: BuildConfig
    twice: bool
    channel: str
    wanted: pl.DataFrame
    progress: Progress
    state: StoreState
    catalog: Catalog = field(default_factory=Catalog)

    def begin(self) -> int:
        """Checks an existing store, and drops what the source no longer names."""
        if not self.objects.exists(MANIFEST):
            return 0
        self.catalog = _known_catalog(self.objects)
        num_dropped = self.check_store()
        self._settle()
        return num_dropped

    def check_store(self) -> int:
        """Checks that a store may be built on; returns how many recordings would leave it."""
        manifest = Manifest.read(self.objects)
        manifest.check_recipe(self.recipe, self.objects.url)
        manifest.check_codec(self.config.codec, self.objects.url)
        self.state = self.state.updated(self.objects)
        return check_drop(self.state, self.source, self.config.max_drop_share)

    def run(self) -> int:
        """Rounds of building until nothing is pending; returns the number of new slices."""
        new_slices = self._finish_open_plan()
        left, in_vain = -1, 0
        while len(pending := self.pending()):
            in_vain = in_vain + 1 if len(pending) == left else 0
            left = len(pending)
            if in_vain == MAX_ROUNDS_IN_VAIN:
                raise StoreError(
                    f"{left} recordings cannot be committed, the first is "
                    f"{pending['filename'][0]}: their files or the store are being changed by "
                    "somebody else. Run this again when that has ended"
                )
            self._write_plan(pending)
            new_slices += self._finish_open_plan()
            self._probe_again(pending)
        self._settle()
        self._meet_others()
        for number in table_numbers(self.objects, PLANS):  # all done: nothing is left to go on with
            self.objects.delete(table_name(PLANS, number))
        self._put_classes()
        self._put_catalog()
        return new_slices

    def _put_classes(self) -> None:
        """Writes the classes of taxonomy.csv down, where some of them have no recording.

        The catalogue, if it lists the file, has both contents meanwhile, or neither.
        """
        recorded = set(self.source.recordings["primary_label"].drop_nulls())
        classes = () if set(self.source.classes) <= recorded else self.source.classes
        if self.catalog.knows(CLASSES) and classes != read_classes(self.objects):
            if classes:
                self.catalog.announce(CLASSES, encode_classes(classes))
            else:
                self.catalog.entries.pop(CLASSES)
            self.catalog.put(self.objects)
        put_classes(self.objects, classes)

    def _meet_others(self) -> None:
        """Makes heads and catalogue cover what other builds have done meanwhile.

        On an object store nothing keeps them away; each knows its own parts only, and the last
        word must not be that of one alone.
        """
        plans = read_tables(self.objects, PLANS, table_numbers(self.objects, PLANS))
        self._grow_array(max((part.end_shard for part in part_ranges(plans)), default=0))
        if Catalog.read(self.objects).entries != self.catalog.entries:
            self.catalog = Catalog()
            for part in table_numbers(self.objects, INDEX):
                self.catalog.note_part(self.objects, part)

    @property
    def codec(self) -> str:
        """The codec of the store, or of the one that will be made."""
        if self.objects.exists(MANIFEST):
            return Manifest.read(self.objects).codec
        return self.config.codec or DEFAULT_CODEC

    def pending(self) -> pl.DataFrame:
        """The wanted recordings that are not in the store as they are now."""
        self.state = self.state.updated(self.objects)
        return pending_recordings(self.wanted, self.state, twice=self.twice)

    def _settle(self) -> None:
        """Drops what the source no longer names or has replaced; metadata follow the csv."""
        state = self.state.updated(self.objects)
        self.state = settle(self.objects, state, self.source, self.wanted, self.catalog)

    def _probe_again(self, pending: pl.DataFrame) -> None:
        """Looks again at files that were planned but not committed: they may have changed."""
        still = self.pending()
        again = self.wanted.join(still, on=["recording_id", "filename"], how="semi")
        if len(again) and len(still) <= len(pending):
            as_given = again.select(self.source.recordings.columns)
            intake = intake_of(self.recipe, self.objects.remote_config)
            probed = probe_recordings(as_given, intake.probe)
            rest = self.wanted.join(again, on=["recording_id", "filename"], how="anti")
            self.wanted = pl.concat([rest, probed]).sort("recording_id", "filename")

    def _write_plan(self, pending: pl.DataFrame) -> None:
        """Plans what is pending after everything that was ever planned, and writes it down."""
        numbers = table_numbers(self.objects, PLANS)
        earlier = read_tables(self.objects, PLANS, numbers)
        remote = self.objects.remote_config
        pending = pending.with_columns(expected_slices(pending, self.recipe, remote, earlier))
        if self.objects.exists(MANIFEST):
            target = Manifest.read(self.objects).part_slices
        else:
            target = self._create(pending)
        first_part, first_shard = self._next_free(earlier)
        plan = plan_parts(pending, target, first_part=first_part, first_shard=first_shard)
        name = table_name(PLANS, max(numbers, default=-1) + 1)
        try:
            self.objects.put_new(name, encode_table(plan))
        except ObjectExistsError as error:
            raise StoreError(
                f"another build has just planned work on {self.objects.url}: run this again"
            ) from error

    def _next_free(self, plans: pl.DataFrame) -> tuple[int, int]:
        """The first part number and zarr shard that nobody has ever been given."""
        planned = part_ranges(plans)
        parts = [part for table in TABLES for part in table_numbers(self.objects, table)]
        parts += [part.part for part in planned]
        shards = [self._num_shards(), *(part.end_shard for part in planned)]
        return max(parts, default=-1) + 1, max(shards)

    def _create(self, pending: pl.DataFrame) -> int:
        """Writes the manifest of a new store; returns its slices per part."""
        share = len(self.wanted) / max(1, len(self.source.recordings))
        target = part_slices(math.ceil(int(pending["expected_slices"].sum()) / share))
        identity = hashlib.sha256(self.recipe.digest().encode())
        for recording_id, content in pending.select("recording_id", "content_hash").iter_rows():
            identity.update(f"{recording_id}\n{content}\n".encode())
        manifest = Manifest(
            store_id=identity.hexdigest()[:16],
            recipe=self.recipe,
            part_slices=target,
            codec=self.codec,
        )
        self.objects.put_new(MANIFEST, manifest.encode())
        return target

    def _finish_open_plan(self) -> int:
        """Builds the parts of the newest plan that are not committed; returns new slices."""
        numbers = table_numbers(self.objects, PLANS)
        if not numbers or not self.objects.exists(MANIFEST):
            return 0
        plan = read_table(self.objects, PLANS, numbers[-1])
        plan = plan.filter(~pl.col("part").is_in(table_numbers(self.objects, INDEX)))
        if plan.is_empty():
            return 0
        self._grow_array(max(part.end_shard for part in part_ranges(plan)))
        jobs = self._jobs(plan)
        total = sum(int(job.recordings["expected_slices"].sum()) for job in jobs)
        new_slices = 0
        workers = self.config.workers or num_cores()
        with self.progress("building", total, "slice") as step:
            for report in build_parts(jobs, workers, step, self.config.executor):
                if not report.conflict:
                    new_slices += report.num_slices
                    self.catalog.note_part(self.objects, report.part)
                    self._put_catalog()
        return new_slices

    def _jobs(self, plan: pl.DataFrame) -> list[PartJob]:
        """The work of each part: the planned recordings that are still what they were."""
        keys = ["recording_id", "filename", "content_hash"]
        columns = [name for name in self.wanted.columns if name not in plan.columns]
        wanted = self.wanted.select(*keys, *columns)
        planned = plan.join(wanted, on=keys, nulls_equal=True, maintain_order="left")
        filterbank_MF = mel_filterbank(self.recipe)
        parts = [(part, planned.filter(pl.col("part") == part.part)) for part in part_ranges(plan)]
        return [
            PartJob(
                url=self.objects.url,
                remote=self.objects.remote_config,
                range=part,
                recipe=self.recipe,
                codec=self.codec,
                filterbank_MF=filterbank_MF,
                recordings=members,
                metadata=self.source.metadata_of(members),
                channel=self.channel,
            )
            for part, members in parts
        ]

    def _grow_array(self, num_shards: int) -> None:
        """Sets the array's shape before anybody writes to it."""
        if self._num_shards() < num_shards:
            manifest = Manifest.read(self.objects)
            self.objects.put(ARRAY_METADATA, array_metadata(manifest, num_shards))

    def _num_shards(self) -> int:
        exists = self.objects.exists(ARRAY_METADATA)
        return num_shards_of(self.objects.get(ARRAY_METADATA)) if exists else 0

    def _put_catalog(self) -> None:
        self.catalog.note_heads(self.objects)
        self.catalog.put(self.objects)


def open_build(
    source_config: SourceConfig,
    recipe: Recipe,
    url: str,
    config: BuildConfig,
    *,
    limit: int | None = None,
    progress: Progress = silent,
    remote: RemoteConfig = DEFAULT,
) -> Build:
    """Reads and probes the source of a build, see `build_store`; writes nothing.

    Raises ConfigError on a folder of something else and on a source of no use, StoreError on a
    store that can only be read, and on half a copy.
    """
    intake = intake_of(recipe, remote)
    source = intake.read_source(source_config)
    objects = open_objects(url, remote=remote)
    objects.check_writable()
    check_not_half_copied(objects)
    is_new = not objects.exists(MANIFEST)
    if is_new and (foreign := objects.entries()):
        raise ConfigError(
            f"store={url} is not empty and not a store (it holds {foreign[0]}): give a new folder"
        )
    wanted = probe_wanted(source, intake.probe, limit, progress)
    if is_new:
        check_any_found(wanted)
    twice = source_config.keep_duplicates
    return Build(
        source=source if twice else with_shared_labels(source, wanted),
        objects=objects,
        recipe=recipe,
        config=config,
        twice=twice,
        channel=source_config.channel,
        wanted=wanted,
        progress=progress,
        state=read_parts(objects, []),
    )


def _known_catalog(objects: Objects) -> Catalog:
    """The catalogue, with what was committed since it was last written.

    Raises DamageError on tables that are not what was written: building on them would hide it.
    """
    catalog = Catalog.read(objects)
    check_indexes(objects, catalog)
    for part in table_numbers(objects, INDEX):
        names = [table_name(table, part) for table in TABLES]
        if not all(catalog.knows(name) for name in names):
            catalog.note_part(objects, part)
        for name, data in zip(names, objects.get_many(names), strict=True):
            if not catalog.matches(name, data):
                raise DamageError(
                    f"{objects.describe(name)} is not what was written: run tools.verify --repair"
                )
    return catalog
