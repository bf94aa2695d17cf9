"""What a folder of shards holds: the committed set, and what an interrupted run has left.

unfinished/plan.json                what the run writes; the names of tars that it may leave
unfinished/shard-000007.tar.json    shard 7 is whole; with its lines in ...tar.parquet
unfinished/shards.json              the next `shards.json`, while the tables are being put
"""

import io
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from datasets.shards.encode import UNFINISHED, WrittenShard, note_names
from datasets.shards.format import (
    HELD_SCHEMA,
    INDEX,
    MANIFEST,
    RECORDINGS,
    FileEntry,
    ShardManifest,
)
from storage.checksums import digest
from storage.errors import ConfigError, DamageError, StoreError
from storage.format.tables import encode_table
from storage.objects.copy_mark import check_not_half_copied
from storage.objects.local import TEMPORARY
from storage.objects.protocol import Objects
from storage.recipe import Recipe

PLAN = f"{UNFINISHED}/plan.json"
NEXT_MANIFEST = f"{UNFINISHED}/{MANIFEST}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """Shards that there are: their entries, and where each slice lies (`HELD_SCHEMA`)."""

    entries: dict[str, FileEntry] = field(default_factory=dict)
    lines: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=HELD_SCHEMA))

    def with_notes(self, notes: dict[str, WrittenShard]) -> "Held":
        """These and the shards of an interrupted run, which replace those of the same name."""
        rest = self.lines.filter(~pl.col("shard").is_in(list(notes)))
        noted = [note.index.select(*HELD_SCHEMA) for note in notes.values()]
        lines = pl.concat([rest, *noted]).unique("row", keep="last", maintain_order=True)
        entries = {name: note.entry for name, note in notes.items()}
        return Held(entries={**self.entries, **entries}, lines=lines)


def check_target(objects: Objects) -> None:
    """Raises ConfigError on a folder that holds something else than shards of ours.

    StoreError on one that can only be read, and on half a copy.
    """
    objects.check_writable()
    check_not_half_copied(objects)
    if objects.exists(MANIFEST) or objects.exists(PLAN):
        return
    if foreign := objects.entries():
        raise ConfigError(
            f"shards={objects.url} is not empty and not a shard set (it holds {foreign[0]}): "
            "give a new folder; tars that lack their shards.json get one by tools.index_shards"
        )


def is_whole(objects: Objects, name: str, entry: FileEntry) -> bool:
    """Whether a file is there, with the size that it was written with."""
    return objects.sizes([name]).get(name) == entry.size_bytes


def read_manifest(objects: Objects) -> ShardManifest | None:
    """What is committed; the next manifest where the index on disk is already its own."""
    manifest = ShardManifest.read(objects) if objects.exists(MANIFEST) else None
    if objects.exists(NEXT_MANIFEST) and objects.exists(INDEX):
        later = ShardManifest.read(objects, NEXT_MANIFEST)
        if objects.digest(INDEX) == later.files[INDEX].sha256:
            return later
    return manifest


def read_held_lines(objects: Objects, manifest: ShardManifest) -> pl.DataFrame | None:
    """The side index, as far as writing needs it; None where it is missing or damaged."""
    data = _read_whole(objects, INDEX, manifest)
    return None if data is None else pl.read_parquet(io.BytesIO(data), columns=[*HELD_SCHEMA])


def read_held_ids(objects: Objects, manifest: ShardManifest) -> pl.Series:
    """The ids of the recordings of a set; none where the table is missing or damaged."""
    data = _read_whole(objects, RECORDINGS, manifest)
    if data is None:
        return pl.Series("recording_id", [], pl.String)
    return pl.read_parquet(io.BytesIO(data), columns=["recording_id"])["recording_id"]


def identity_of(store_id: str, recipe: Recipe) -> str:
    """What tells apart the sources of shards."""
    return f"{store_id} {recipe.digest()}"


def put_plan(objects: Objects, identity: str, digest: str, claimed: list[str]) -> None:
    """Writes down what a run is about to do; `claimed`: the tars that it may leave behind."""
    plan = {"identity": identity, "plan": digest, "claimed": sorted(set(claimed))}
    objects.put(PLAN, json.dumps(plan).encode())


def read_plan(objects: Objects) -> dict[str, Any]:
    """The plan of an interrupted run; empty where there is none, DamageError on a damaged one."""
    try:
        plan: dict[str, Any] = json.loads(objects.get(PLAN)) if objects.exists(PLAN) else {}
    except ValueError as error:
        raise DamageError(
            f"{objects.describe(PLAN)} is damaged ({error}): delete the folder {UNFINISHED} and "
            "the tars that shards.json does not name, and write the shards again"
        ) from error
    return plan


def read_notes(objects: Objects) -> dict[str, WrittenShard]:
    """The whole shards that an interrupted run has written, by name; damaged notes are none."""
    notes = {}
    for path in objects.list(UNFINISHED):
        name = path.removeprefix(f"{UNFINISHED}/").removesuffix(".json")
        lines, last = note_names(name)
        if path != last or not name.endswith(".tar"):
            continue
        with suppress(ValueError, TypeError, StoreError, pl.exceptions.PolarsError):
            entry = FileEntry(**json.loads(objects.get(last)))
            index = pl.read_parquet(io.BytesIO(objects.get(lines)))
            if is_whole(objects, name, entry):
                notes[name] = WrittenShard(entry=entry, index=index)
    return notes


def commit(
    objects: Objects, manifest: ShardManifest, index: pl.DataFrame, recordings: pl.DataFrame
) -> ShardManifest:
    """Puts the tables and, last, `shards.json`, as far as they differ from what is there.

    `manifest` has the entries of the tars alone; returns the whole one.
    """
    files = dict(manifest.files)
    changed = {}
    for name, table in ((INDEX, index), (RECORDINGS, recordings)):
        data = encode_table(table.rechunk())
        files[name] = FileEntry(size_bytes=len(data), sha256=digest(data))
        if not is_whole(objects, name, files[name]) or objects.get(name) != data:
            changed[name] = data
    whole = ShardManifest(store_id=manifest.store_id, recipe=manifest.recipe, files=files)
    encoded = whole.encode()
    if changed:
        objects.put(NEXT_MANIFEST, encoded)
    for name, data in changed.items():
        objects.put(name, data)
    if not objects.exists(MANIFEST) or objects.get(MANIFEST) != encoded:
        objects.put(MANIFEST, encoded)
    clear_notes(objects)
    return whole


def forget_notes(objects: Objects, notes: Iterable[str]) -> None:
    """Deletes the notes of some shards, and the shards."""
    for name in notes:
        for file in (note_names(name)[1], note_names(name)[0], name):
            objects.delete(file)


def clear_notes(objects: Objects) -> None:
    """Deletes what a run notes while it is under way.

    The plan first: a tar that a plan claims and no note names would be taken for unfinished.
    """
    for name in sorted(objects.list(UNFINISHED), key=lambda name: name != PLAN):
        objects.delete(name)
    for folder in (UNFINISHED, TEMPORARY):
        objects.drop_folder(folder)


def _read_whole(objects: Objects, name: str, manifest: ShardManifest) -> bytes | None:
    """A table's bytes; None where they are not those in the manifest."""
    if not is_whole(objects, name, manifest.files[name]):
        return None
    data = objects.get(name)
    return data if digest(data) == manifest.files[name].sha256 else None
