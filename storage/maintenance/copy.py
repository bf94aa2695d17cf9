"""Contents of a copy of a store, for `storage.objects.sync`.

Zarr shards without a live row are not copied. Tables are those that the catalogue lists, with
their sha256; the zarr shards are held against the checksums of their own chunks.
"""

from typing import Any

from storage.checksums import digest, ends_with_crc32c
from storage.errors import DamageError, ObjectMissingError, StoreError
from storage.format.catalog import LISTING, Catalog
from storage.format.catalog import NAME as CATALOG
from storage.format.classes import NAME as CLASSES
from storage.format.manifest import NAME as MANIFEST
from storage.format.manifest import Manifest
from storage.format.tables import INDEX, PLANS, TABLES, read_tables, table_name, table_numbers
from storage.format.zarr_shards import ARRAY, ARRAY_METADATA, INDEX_BYTES, decode_index, shard_name
from storage.maintenance.verify import check_built, live_shards
from storage.objects.protocol import Objects
from storage.objects.sync import Item, SetKind, SyncPlan

_ORDER = (
    ARRAY_METADATA,
    CLASSES,
    *reversed(TABLES),
)  # the index, which is the commit of a part, last


def plan_store(source: Objects) -> SyncPlan:
    """All of a store; StoreError while it is being built, DamageError where it is not whole."""
    manifest = Manifest.read(source)
    check_built(source, then="copy")
    if not source.exists(CATALOG):
        raise DamageError(f"{source.url} has no {CATALOG}: run tools.verify --repair")
    sealed = source.get(CATALOG)
    entries = Catalog.decode(sealed).entries
    for name, entry in entries.items():
        if "next_sha256" in entry or "sha256" not in entry:
            raise StoreError(f"a build of {source.url} is unfinished: {name} was about to change")
    listed = [
        Item(name=name, size_bytes=entry["size"], sha256=entry["sha256"])
        for name, entry in entries.items()
    ]
    if MANIFEST not in entries:
        raise DamageError(f"{source.url}: {CATALOG} does not list {MANIFEST}: run tools.verify")
    tables = [item for start in _ORDER for item in listed if item.name.startswith(start)]
    tables.append(Item(name=CATALOG, size_bytes=len(sealed), sha256=digest(sealed)))
    return SyncPlan(
        identity=manifest.store_id,
        data=tuple(_zarr_shards(source, entries)),
        tables=tuple(tables),
        head=next(item for item in listed if item.name == MANIFEST),
    )


def _zarr_shards(source: Objects, entries: dict[str, Any]) -> list[Item]:
    """The zarr shards that have live rows."""
    parts = [part for part in table_numbers(source, INDEX) if table_name(INDEX, part) in entries]
    names = [shard_name(number) for number in live_shards(read_tables(source, INDEX, parts))]
    sizes = source.sizes(names)
    for name in names:
        if name not in sizes:
            raise ObjectMissingError(
                f"{source.describe(name)} is missing: run tools.verify --repair"
            )
    return [Item(name=name, size_bytes=sizes[name]) for name in names]


def _recorded(objects: Objects) -> dict[str, str]:
    if not objects.exists(CATALOG):
        return {}
    sealed = objects.get(CATALOG)
    entries = Catalog.decode(sealed).entries.items()
    stable = {name: entry["sha256"] for name, entry in entries if "next_sha256" not in entry}
    return {CATALOG: digest(sealed), **stable}


def _owns(name: str) -> bool:
    folders = (ARRAY, PLANS, *TABLES)
    return name in (MANIFEST, CATALOG, CLASSES) or name.startswith(
        tuple(f"{one}/" for one in folders)
    )


def check_zarr_shard(name: str, data: bytes) -> None:
    """Raises DamageError unless each inner chunk of a zarr shard has its checksum."""
    pairs = decode_index(data[-INDEX_BYTES:], name)
    for place, (offset, length) in enumerate(pairs.tolist()):
        if not ends_with_crc32c(data[offset : offset + length]):
            raise DamageError(f"the checksum of chunk {place} of {name} differs")


STORE = SetKind(
    word="store",
    head=MANIFEST,
    plan=plan_store,
    identity=lambda objects: Manifest.read(objects).store_id,
    owns=_owns,
    visible=lambda name: name.startswith((f"{INDEX}/", f"{PLANS}/")),
    check=check_zarr_shard,
    recorded=_recorded,
    listing=LISTING,
    immutable=True,
)
