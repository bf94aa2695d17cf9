"""Builds the damaged parts of a store again from their audio, row for row.

A part is rebuilt aside, and its objects then replace the damaged ones, each at once; nothing is
deleted first. A part some of whose recordings are missing or have changed is left as it is and
named.
"""

from contextlib import nullcontext
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

import polars as pl

from storage.audio.filterbank import mel_filterbank
from storage.build.plan import PartJob, PartRange, expected_slices
from storage.build.workers import build_parts
from storage.errors import DamageError
from storage.format.catalog import NAME as CATALOG
from storage.format.catalog import Catalog
from storage.format.classes import NAME as CLASSES
from storage.format.manifest import NAME as MANIFEST
from storage.format.manifest import Manifest, read_manifest
from storage.format.state import pending_recordings, read_parts
from storage.format.tables import (
    INDEX,
    RECORDINGS,
    REJECTS,
    TABLES,
    read_table,
    table_name,
    table_numbers,
)
from storage.format.zarr_metadata import array_metadata, num_shards_of
from storage.format.zarr_shards import ARRAY_METADATA, SLICES_PER_ZARR_SHARD, shard_name
from storage.maintenance.verify import VerifyReport, maintained, shard_numbers
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.local import TEMPORARY
from storage.objects.open import open_objects
from storage.objects.protocol import Objects
from storage.objects.urls import is_remote
from storage.progress import Progress, silent
from storage.source.copies import with_shared_labels
from storage.source.kinds import intake_of
from storage.source.probe import probe_wanted
from storage.source.table import Source, SourceConfig

SCRATCH = f"{TEMPORARY}/repair"


@dataclass(slots=True, kw_only=True)
class RepairReport:
    """Summary of a repair: what was rebuilt, and what could not be."""

    repaired: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """A line per object or part."""
        lines = [f"  repaired {name}" for name in self.repaired]
        return "\n".join([*lines, *(f"  NOT repaired: {reason}" for reason in self.left)])


def repair_store(
    source_config: SourceConfig,
    report: VerifyReport,
    progress: Progress = silent,
    remote: RemoteConfig = DEFAULT,
) -> RepairReport:
    """Repairs what `verify_store` found damaged."""
    with maintained(report.url, "repair", remote) as objects:
        repair = _Repair(objects, report)
        repair.mend_heads()
        parts = sorted({f.part for f in report.damage if f.part is not None})
        if parts:
            source = intake_of(repair.manifest.recipe, remote).read_source(source_config)
            repair.mend_parts(parts, source, source_config, progress)
        repair.mend_catalog()
    return repair.done


class _Repair:
    def __init__(self, objects: Objects, report: VerifyReport) -> None:
        self.objects = objects
        self.damaged = {finding.object for finding in report.damage}
        self.manifest: Manifest = read_manifest(objects)
        self.done = RepairReport()
        try:
            self.catalog = Catalog.read(objects)
        except DamageError:
            self.catalog = Catalog()

    def mend_heads(self) -> None:
        """`melbank.json` and `zarr.json`, each from the other."""
        self._replace(MANIFEST, self.manifest.encode())
        self._replace(ARRAY_METADATA, array_metadata(self.manifest, self._num_shards()))

    def mend_catalog(self) -> None:
        """Lists everything as it is now, once nothing else is damaged."""
        if self.done.left:
            return
        if CLASSES in self.damaged and self.objects.exists(CLASSES):
            self.objects.delete(CLASSES)  # a hint: the next build writes it
            self.done.repaired.append(CLASSES)
        catalog = Catalog()
        for part in table_numbers(self.objects, INDEX):
            catalog.note_part(self.objects, part)
        catalog.note_heads(self.objects)
        self._replace(CATALOG, catalog.encode())

    def mend_parts(
        self, parts: list[int], source: Source, config: SourceConfig, progress: Progress
    ) -> None:
        """Rebuilds parts aside and puts what differs in place."""
        probe = intake_of(self.manifest.recipe, self.objects.remote_config).probe
        wanted = probe_wanted(source, probe, None, progress)
        if not config.keep_duplicates:
            source = with_shared_labels(source, wanted)
        sound = [part for part in table_numbers(self.objects, INDEX) if part not in parts]
        state = read_parts(self.objects, sound)
        lost = pending_recordings(wanted, state, twice=config.keep_duplicates)
        recipe, remote = self.manifest.recipe, self.objects.remote_config
        lost = lost.with_columns(expected_slices(lost, recipe, remote))
        with progress("rebuilding", len(parts), "part") as step:
            for part in parts:
                self._mend_part(part, self._members(part, parts, lost), source, config.channel)
                step(1)

    def _mend_part(self, part: int, members: pl.DataFrame, source: Source, channel: str) -> None:
        placed = self._first_rows(part)
        usable = members.filter(pl.col("reason").is_null())
        missing = placed.join(usable, on="recording_id", how="anti")
        if len(missing):
            self.done.left.append(
                f"part {part}: the audio of {len(missing)} recordings is missing or has changed, "
                f"the first is {missing['recording_id'][0]}; bring it back, or drop it from the csv"
            )
            return
        recordings = members.join(placed, on="recording_id", how="left", maintain_order="left")
        url = self.objects.url  # built aside on the store's own disk, or for the time being here
        temporary = TemporaryDirectory(prefix="melbank-repair-") if is_remote(url) else None
        with temporary or nullcontext(f"{url}/{SCRATCH}") as scratch:
            job = PartJob(
                url=scratch,
                remote=self.objects.remote_config,
                range=self._range(part, placed),
                recipe=self.manifest.recipe,
                codec=self.manifest.codec,
                filterbank_MF=mel_filterbank(self.manifest.recipe),
                recordings=recordings,
                metadata=source.metadata_of(recordings),
                channel=channel,
            )
            list(build_parts([job], 1, lambda _: None))
            self._adopt(open_objects(scratch), part)

    def _adopt(self, scratch: Objects, part: int) -> None:
        """Puts the rebuilt objects of a part in place of those that differ; tables last."""
        names = [shard_name(number) for number in shard_numbers(scratch)]
        names += [table_name(table, part) for table in (RECORDINGS, REJECTS, INDEX)]
        for name in names:
            self._replace(name, scratch.get(name))
            scratch.delete(name)

    def _replace(self, name: str, data: bytes) -> None:
        if not self.objects.exists(name) or self.objects.get(name) != data:
            self.objects.put(name, data)
            self.done.repaired.append(name)

    def _members(self, part: int, parts: list[int], lost: pl.DataFrame) -> pl.DataFrame:
        """The recordings of a damaged part: those its sound tables name, and the unaccounted.

        Where its tables account for all, no others: the source may hold more than the store.
        """
        # what had slices of its own is no duplicate, whatever else the source holds now
        placed = pl.col("recording_id").is_in(self._first_rows(part)["recording_id"].implode())
        lost = lost.with_columns(pl.when(~placed).then("duplicate_of").alias("duplicate_of"))
        tables = self._sound_tables(part)
        if REJECTS in tables and (RECORDINGS in tables or INDEX in tables):
            known = pl.col("recording_id").is_in(list(self._named(part)))
            if RECORDINGS in tables:
                return lost.filter(known)
            new = lost.filter(~known & pl.col("duplicate_of").is_null())["recording_id"]
            return lost.filter(known | ~pl.col("duplicate_of").is_in(new.implode()))
        if len(parts) == 1:
            return lost
        named = {number: self._named(number) for number in parts}
        elsewhere = {name for number in parts if number != part for name in named[number]}
        mine = pl.col("recording_id").is_in(list(named[part]))
        low, high = min(named[part], default=""), max(named[part], default="")
        between = pl.col("recording_id").is_between(pl.lit(low), pl.lit(high))
        unclaimed = ~pl.col("recording_id").is_in(list(elsewhere))
        return lost.filter(mine | (unclaimed & between))

    def _named(self, part: int) -> set[str]:
        return {
            name for frame in self._sound_tables(part).values() for name in frame["recording_id"]
        }

    def _sound_tables(self, part: int) -> dict[str, pl.DataFrame]:
        names = {table: table_name(table, part) for table in TABLES}
        return {
            table: read_table(self.objects, table, part)
            for table, name in names.items()
            if name not in self.damaged
        }

    def _first_rows(self, part: int) -> pl.DataFrame:
        """First row of each recording's slices: recording_id, first_row."""
        tables = self._sound_tables(part)
        if RECORDINGS in tables:
            rows = tables[RECORDINGS].filter(pl.col("num_slices") > 0)
            return rows.select("recording_id", "first_row")
        if INDEX in tables:
            slices = tables[INDEX].group_by("recording_id", maintain_order=True)
            return slices.agg(first_row=pl.col("row").min())
        return pl.DataFrame(schema={"recording_id": pl.String, "first_row": pl.Int64})

    def _range(self, part: int, placed: pl.DataFrame) -> PartRange:
        """The zarr shards of a part: from its first row to the next part's."""
        starts = sorted(
            int(entry["first_row"]) // SLICES_PER_ZARR_SHARD
            for name, entry in self.catalog.entries.items()
            if name.startswith(f"{INDEX}/") and "first_row" in entry
        )
        known = placed["first_row"].to_list()
        known.append(self.catalog.entries.get(table_name(INDEX, part), {}).get("first_row"))
        first_row = min((row for row in known if row is not None), default=0)
        first = int(first_row) // SLICES_PER_ZARR_SHARD
        end = min((start for start in starts if start > first), default=self._num_shards())
        return PartRange(part=part, first_shard=first, num_shards=max(1, end - first))

    def _num_shards(self) -> int:
        """Number of zarr shards of the array: from the catalogue, else from `zarr.json`."""
        noted = self.catalog.entries.get(ARRAY_METADATA, {}).get("num_shards")
        return int(noted) if noted else num_shards_of(self.objects.get(ARRAY_METADATA))
