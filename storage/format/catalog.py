"""`catalog.json`: the committed table files with size, sha256 and row range.

A hint, not a commit: it is rewritten after each commit, and readers that can list do without it.
`verify` holds the files against it; it vouches for itself with a sha256 over its own entries.
"""

import io
import json
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from storage.checksums import digest, digest_json
from storage.errors import DamageError
from storage.format.classes import NAME as CLASSES
from storage.format.manifest import NAME as MANIFEST
from storage.format.tables import INDEX, TABLES, table_name
from storage.format.zarr_metadata import num_shards_of
from storage.format.zarr_shards import ARRAY_METADATA
from storage.objects.protocol import Listing, Objects

NAME = "catalog.json"
LISTING = Listing(name=NAME, section="objects", size_key="size")

Entry = dict[str, Any]


@dataclass(slots=True)
class Catalog:
    """Object name -> {size, sha256}."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def add(self, name: str, data: bytes, **more: int) -> None:
        """Notes an object that was put."""
        self.entries[name] = {"size": len(data), "sha256": digest(data), **more}

    def announce(self, name: str, data: bytes) -> None:
        """Notes what an object is about to become: until `add`, either content is right."""
        self.entries.setdefault(name, {})["next_sha256"] = digest(data)

    def knows(self, name: str) -> bool:
        """True where an object is listed."""
        return name in self.entries

    def matches(self, name: str, data: bytes) -> bool:
        """True where a listed object has the listed bytes."""
        entry = self.entries[name]
        return digest(data) in (entry.get("sha256"), entry.get("next_sha256"))

    def note_part(self, objects: Objects, part: int) -> None:
        """Notes the three tables of a committed part, the index with its range of rows."""
        for table in TABLES:
            name = table_name(table, part)
            data = objects.get(name)
            self.add(name, data, **(_row_range(data) if table == INDEX else {}))

    def note_heads(self, objects: Objects) -> None:
        """Notes `melbank.json`, `zarr.json` with its number of zarr shards, `classes.json`."""
        self.entries.pop(CLASSES, None)
        for name in (MANIFEST, ARRAY_METADATA, CLASSES):
            if objects.exists(name):
                data = objects.get(name)
                more = {"num_shards": num_shards_of(data)} if name == ARRAY_METADATA else {}
                self.add(name, data, **more)

    def put(self, objects: Objects) -> None:
        """Writes the catalogue into its store."""
        objects.put(NAME, self.encode())

    def encode(self) -> bytes:
        """The file's bytes."""
        entries = dict(sorted(self.entries.items()))
        document = {"format": "melbank catalog", "sha256": digest_json(entries), "objects": entries}
        return (json.dumps(document, indent=1) + "\n").encode()

    @classmethod
    def decode(cls, data: bytes) -> "Catalog":
        """Reads a catalogue; raises DamageError unless it is whole."""
        try:
            document = json.loads(data)
            entries = document["objects"]
            is_intact = document["sha256"] == digest_json(entries)
            is_catalog = document["format"] == "melbank catalog"
        except (ValueError, KeyError, TypeError) as error:
            raise DamageError(f"{NAME} is damaged ({error}): run tools.verify --repair") from error
        if not (is_catalog and is_intact):
            raise DamageError(
                f"{NAME} is damaged (its entries differ from their checksum): run tools.verify "
                "--repair"
            )
        return cls(entries)

    @classmethod
    def read(cls, objects: Objects) -> "Catalog":
        """The catalogue of a store; an empty one where it is missing."""
        return cls.decode(objects.get(NAME)) if objects.exists(NAME) else cls()


def check_indexes(objects: Objects, catalog: Catalog) -> None:
    """Raises DamageError where a listed index is gone: its slices would pass for leftovers."""
    there = objects.list(INDEX)
    for name in catalog.entries:
        if name.startswith(f"{INDEX}/") and name not in there:
            raise DamageError(f"{objects.describe(name)} is missing: run tools.verify --repair")


def _row_range(index: bytes) -> dict[str, int]:
    rows = pl.read_parquet(io.BytesIO(index), columns=["row"])["row"]
    return {"first_row": int(rows[0]), "last_row": int(rows[-1])} if len(rows) else {}
