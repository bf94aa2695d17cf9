"""Rounds of a build: pending recordings -> a plan, written down -> parts, built and committed.

A killed build goes on with the plan that it finds. `build` runs it, or `shares` those of several.
"""

import hashlib
import math
from dataclasses import dataclass, field
from typing import NamedTuple

import polars as pl

from storage.audio.filterbank import mel_filterbank
from storage.build.config import BuildConfig
from storage.build.plan import PartJob, expected_slices, part_ranges, part_slices, plan_parts
from storage.build.probing import PROBES, probe_together
from storage.build.reconcile import check_drop, settle
from storage.build.workers import build_parts
from storage.errors import ConfigError, DamageError, ObjectExistsError, StoreError
from storage.format.catalog import Catalog, check_indexes
from storage.format.chunk_codecs import DEFAULT_CODEC
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
from storage.objects.open import open_objects
from storage.objects.protocol import Objects
from storage.processes import num_cores
from storage.progress import Progress, silent
from storage.recipe import Recipe
from storage.source.copies import with_shared_labels
from storage.source.kinds import intake_of
from storage.source.probe import check_any_found, probe_recordings, probe_wanted
from storage.source.table import Source, SourceConfig

# A first round may fail on wrong headers; the next one counts slices by decoding.
MAX_ROUNDS_IN_VAIN = 2


class Place(NamedTuple):
    """Place of the next plan: its number, and the first part and zarr shard that are free.

    `earlier`: all plans before it, as one table.
    """

    plan: int
    first_part: int
    first_shard: int
    earlier: pl.DataFrame


@dataclass(slots=True, kw_only=True)
class Build:
    """One run of the builder on one store; `wanted` are the probed recordings it is to hold.

    `is_shared`: others build other shares of the same source meanwhile, and plan as this one does.
    """

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
    is_shared: bool = False

    def begin(self) -> int:
        """Checks an existing store, and drops what the source no longer names."""
        if not self.objects.exists(MANIFEST):
            return 0
        self.catalog = known_catalog(self.objects)
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
        new_slices = self.finish_plan()
        left, in_vain = -1, 0
        while True:
            place = self.next_place()
            if not len(pending := self.pending()):
                break
            in_vain = in_vain + 1 if len(pending) == left else 0
            left = len(pending)
            if in_vain == MAX_ROUNDS_IN_VAIN:
                raise StoreError(
                    f"{left} recordings cannot be committed, the first is "
                    f"{pending['filename'][0]}: their files or the store are being changed by "
                    "somebody else. Run this again when that has ended"
                )
            self.write_plan(pending, place)
            new_slices += self.finish_plan()
            self._probe_again(pending)
        self._close()
        return new_slices

    def _close(self) -> None:
        """Ends a build of which nothing is pending."""
        self._settle()
        self._meet_others()
        for number in table_numbers(self.objects, PLANS):  # all done: nothing is left to go on with
            self.objects.delete(table_name(PLANS, number))
        for name in self.objects.list(PROBES):
            self.objects.delete(name)
        for folder in (PLANS, PROBES):
            self.objects.drop_folder(folder)
        self._put_classes()
        self._put_catalog()

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

    def write_plan(self, pending: pl.DataFrame, place: Place) -> None:
        """Plans what is pending, at a place that was free before it was, and writes it down.

        Where another builder of a share has planned meanwhile, its plan is the one to go on with.
        """
        earlier, remote = place.earlier, self.objects.remote_config
        pending = pending.with_columns(expected_slices(pending, self.recipe, remote, earlier))
        if self.objects.exists(MANIFEST):
            target = Manifest.read(self.objects).part_slices
        else:
            target = self._create(pending)
        plan = plan_parts(
            pending, target, first_part=place.first_part, first_shard=place.first_shard
        )
        try:
            self.objects.put_new(table_name(PLANS, place.plan), encode_table(plan))
        except ObjectExistsError as error:
            if not self.is_shared:
                raise StoreError(
                    f"another build has just planned work on {self.objects.url}: run this again"
                ) from error

    def next_place(self) -> Place:
        """The first plan, part and zarr shard that nobody has ever been given."""
        numbers = table_numbers(self.objects, PLANS)
        plans = read_tables(self.objects, PLANS, numbers)
        planned = part_ranges(plans)
        parts = [part for table in TABLES for part in table_numbers(self.objects, table)]
        parts += [part.part for part in planned]
        return Place(
            plan=max(numbers, default=-1) + 1,
            first_part=max(parts, default=-1) + 1,
            first_shard=max([self._num_shards(), *(part.end_shard for part in planned)]),
            earlier=plans,
        )

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

    def finish_plan(self) -> int:
        """Builds the parts of the newest plan that are not committed; returns new slices."""
        numbers = table_numbers(self.objects, PLANS)
        if not numbers or not self.objects.exists(MANIFEST):
            return 0
        return self.build_parts(read_table(self.objects, PLANS, numbers[-1]))

    def build_parts(self, plan: pl.DataFrame) -> int:
        """Builds the parts of a plan, or of some of it, that are not committed; new slices."""
        plan = plan.filter(~pl.col("part").is_in(table_numbers(self.objects, INDEX)))
        if plan.is_empty():
            return 0
        self._grow_array(max(part.end_shard for part in part_ranges(plan)))
        jobs = self.jobs(plan)
        total = sum(int(job.recordings["expected_slices"].sum()) for job in jobs)
        new_slices = 0
        workers = self.config.workers or num_cores()
        with self.progress("building", total, "slice") as step:
            for report in build_parts(jobs, workers, step, self.config.executor):
                if not report.conflict:
                    new_slices += report.num_slices
                    if not self.is_shared:  # of several, the last one lists all
                        self.catalog.note_part(self.objects, report.part)
                        self._put_catalog()
        return new_slices

    def jobs(self, plan: pl.DataFrame) -> list[PartJob]:
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
    """Reads and probes the source of a build, see `build_store`; a share writes its probes.

    Raises ConfigError on a folder of something else and on a source of no use, StoreError on a
    store that can only be read, and on half a copy.
    """
    intake = intake_of(recipe, remote)
    source = intake.read_source(source_config)
    objects = open_objects(url, remote=remote)
    is_new = _is_new(objects)
    if config.share is None:
        wanted = probe_wanted(source, intake.probe, limit, progress)
    else:
        wanted = probe_together(
            objects, source, intake.probe, share=config.share, limit=limit, progress=progress
        )
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
        is_shared=config.share is not None,
    )


def _is_new(objects: Objects) -> bool:
    """True where there is no store yet; raises ConfigError and StoreError as `open_build`."""
    objects.check_writable()
    check_not_half_copied(objects)
    if objects.exists(MANIFEST):
        return False
    if foreign := [name for name in objects.entries() if name != PROBES]:
        raise ConfigError(
            f"store={objects.url} is not empty and not a store (it holds {foreign[0]}): give a new "
            "folder"
        )
    return True


def known_catalog(objects: Objects) -> Catalog:
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
        if any(catalog.is_announced(name) for name in names):  # by a build that was killed
            catalog.note_part(objects, part)
    return catalog
