"""Describes a shard set to `storage.objects.sync`: its objects with their sha256."""

from datasets.shards.encode import UNFINISHED
from datasets.shards.format import INDEX, LISTING, MANIFEST, RECORDINGS, ShardManifest
from storage.checksums import digest
from storage.errors import StoreError
from storage.format.classes import NAME as CLASSES
from storage.objects.protocol import Objects
from storage.objects.sync import Item, SetKind, SyncPlan


def plan_shards(source: Objects) -> SyncPlan:
    """Lists the objects of a shard set; raises StoreError while it is being written."""
    manifest = ShardManifest.read(source)
    if source.list(UNFINISHED):
        raise StoreError(
            f"the shards in {source.url} are being written, or that was interrupted: finish it "
            "first, with tools.write_shards"
        )
    manifest_json = source.get(MANIFEST)
    items = {
        name: Item(name=name, size_bytes=entry.size_bytes, sha256=entry.sha256)
        for name, entry in manifest.files.items()
    }
    hints = [source.get(CLASSES)] if source.exists(CLASSES) else []
    classes = [Item(name=CLASSES, size_bytes=len(data), sha256=digest(data)) for data in hints]
    return SyncPlan(
        identity=manifest.identity,
        data=tuple(items[name] for name in manifest.shards),
        tables=(*classes, items[RECORDINGS], items[INDEX]),
        head=Item(name=MANIFEST, size_bytes=len(manifest_json), sha256=digest(manifest_json)),
    )


def _recorded(objects: Objects) -> dict[str, str]:
    sealed = objects.get(MANIFEST)
    files = ShardManifest.read(objects).files
    return {MANIFEST: digest(sealed), **{name: entry.sha256 for name, entry in files.items()}}


def _owns(name: str) -> bool:
    is_metadata = name in (MANIFEST, INDEX, RECORDINGS, CLASSES) or name.startswith(
        f"{UNFINISHED}/"
    )
    return is_metadata or ("/" not in name and name.endswith(".tar"))


SHARDS = SetKind(
    word="shard set",
    head=MANIFEST,
    plan=plan_shards,
    identity=lambda objects: ShardManifest.read(objects).identity,
    owns=_owns,
    visible=lambda _: False,
    check=lambda name, data: None,  # each object has its sha256
    recorded=_recorded,
    listing=LISTING,
    immutable=False,
)
