"""State of a folder of shards: the committed set, and the files of an interrupted run.

unfinished/plan.json                digest of the plan, and the tars that the run may leave
unfinished/shard-000007.tar.json    record of a written shard, with its lines in ...tar.parquet
unfinished/shards.json              the next `shards.json`, while the tables are being put
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from datasets.shards.encode import UNFINISHED, WrittenShard, record_names
from datasets.shards.format import (
    HELD_SCHEMA,
    INDEX,
    INDEX_RULE,
    MANIFEST,
    RECORDINGS,
    FileEntry,
    ShardManifest,
)
from datasets.shards.shard_set import decode_set_table
from storage.checksums import digest
from storage.errors import ConfigError, DamageError, StoreError
from storage.format.tables import encode_table
from storage.objects.copy_mark import check_not_half_copied
from storage.objects.local import TEMPORARY
from storage.objects.protocol import Objects
from storage.untrusted import check_plain, decode_parquet, parse_json, record_of, text_of

PLAN = f"{UNFINISHED}/plan.json"
NEXT_MANIFEST = f"{UNFINISHED}/{MANIFEST}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """Existing shards: their entries, and the lines of their slices (`HELD_SCHEMA`)."""

    entries: dict[str, FileEntry] = field(default_factory=dict)
    lines: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=HELD_SCHEMA))

    def with_records(self, records: dict[str, WrittenShard]) -> "Held":
        """Adds the shards of an interrupted run, which replace those of the same name."""
        rest = self.lines.filter(~pl.col("shard").is_in(list(records)))
        added = [record.index.select(*HELD_SCHEMA) for record in records.values()]
        lines = pl.concat([rest, *added]).unique("row", keep="last", maintain_order=True)
        entries = {name: record.entry for name, record in records.items()}
        return Held(entries={**self.entries, **entries}, lines=lines)


def check_target(objects: Objects) -> None:
    """Raises ConfigError on a folder that holds anything but shards of melbank.

    Raises StoreError on a read-only folder and on an unfinished copy.
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


def is_complete(objects: Objects, name: str, entry: FileEntry) -> bool:
    """True where a file exists with the size that it was written with."""
    return objects.sizes([name]).get(name) == entry.size_bytes


def read_manifest(objects: Objects) -> ShardManifest | None:
    """Reads the committed manifest, or the next one where its index is already in place."""
    manifest = ShardManifest.read(objects) if objects.exists(MANIFEST) else None
    if objects.exists(NEXT_MANIFEST) and objects.exists(INDEX):
        later = ShardManifest.read(objects, NEXT_MANIFEST)
        if objects.digest(INDEX) == later.files[INDEX].sha256:
            return later
    return manifest


def read_held(
    objects: Objects, manifest: ShardManifest, name: str, columns: list[str]
) -> pl.DataFrame | None:
    """Reads columns of a table of a set; None where it is missing or damaged."""
    entry = manifest.files[name]
    if not is_complete(objects, name, entry):
        return None
    data = objects.get(name)
    if digest(data) != entry.sha256:
        return None
    try:
        table = decode_set_table(objects, name, data, columns)
    except DamageError:
        return None
    is_known = name != INDEX or table["shard"].is_in([*manifest.shards]).all()
    return table if is_known else None


def put_plan(
    objects: Objects, identity: str, digest: str, claimed: list[str], *, is_new: bool = False
) -> None:
    """Records the plan of a run; `claimed`: tars that it may leave if interrupted.

    `is_new`: raises ObjectExistsError where another plan is recorded.
    """
    plan = {"identity": identity, "plan": digest, "claimed": sorted(set(claimed))}
    put = objects.put_new if is_new else objects.put
    put(PLAN, json.dumps(plan).encode())


def read_plan(objects: Objects) -> dict[str, Any]:
    """Reads the plan of an interrupted run; empty without one, DamageError on a damaged one."""
    try:
        plan: dict[str, Any] = {}
        if objects.exists(PLAN):
            found = record_of(parse_json(objects.get(PLAN)))
            plan = {name: text_of(found, name) for name in ("identity", "plan")}
            plan["claimed"] = [_check_tar(name) for name in found["claimed"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DamageError(
            f"{objects.describe(PLAN)} is damaged ({error}): delete the folder {UNFINISHED} and "
            "the tars that shards.json does not name, and write the shards again"
        ) from error
    return plan


def _check_tar(name: object) -> str:
    if not str(name).endswith(".tar"):
        raise ValueError(f"{name!r} is no name of a tar")
    return check_plain(name, flat=True)


def read_records(objects: Objects) -> dict[str, WrittenShard]:
    """Reads the records of an interrupted run by shard; skips damaged ones."""
    records = {}
    for path in objects.list(UNFINISHED):
        name = path.removeprefix(f"{UNFINISHED}/").removesuffix(".json")
        lines, last = record_names(name)
        if path != last or not name.endswith(".tar"):
            continue
        with suppress(ValueError, StoreError):
            entry = FileEntry.of(parse_json(objects.get(last)))
            where = objects.describe(lines)
            index = decode_parquet(objects.get(lines), where, INDEX_RULE, "write it again")
            if is_complete(objects, name, entry) and (index["shard"] == name).all():
                records[name] = WrittenShard(entry=entry, index=index)
    return records


def commit(
    objects: Objects, manifest: ShardManifest, index: pl.DataFrame, recordings: pl.DataFrame
) -> None:
    """Puts the tables and, last, `shards.json`, as far as they differ from what is there.

    `manifest` has the entries of the tars alone.
    """
    files = dict(manifest.files)
    changed = {}
    for name, table in ((INDEX, index), (RECORDINGS, recordings)):
        data = encode_table(table.rechunk())
        files[name] = FileEntry(size_bytes=len(data), sha256=digest(data))
        if not is_complete(objects, name, files[name]) or objects.get(name) != data:
            changed[name] = data
    encoded = replace(manifest, files=files).encode()
    if changed:
        objects.put(NEXT_MANIFEST, encoded)
    for name, data in changed.items():
        objects.put(name, data)
    if not objects.exists(MANIFEST) or objects.get(MANIFEST) != encoded:
        objects.put(MANIFEST, encoded)
    clear_records(objects)


def delete_records(objects: Objects, names: Iterable[str]) -> None:
    """Deletes the records of shards, then the shards."""
    for name in names:
        lines, last = record_names(name)
        for file in (last, lines, name):
            objects.delete(file)


def clear_records(objects: Objects) -> None:
    """Deletes the plan and the records of a run.

    The plan first: a tar that a plan claims without a record would count as unfinished.
    """
    for name in sorted(objects.list(UNFINISHED), key=lambda name: name != PLAN):
        objects.delete(name)
    for folder in (UNFINISHED, TEMPORARY):
        objects.drop_folder(folder)
