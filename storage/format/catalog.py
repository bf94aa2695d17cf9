"""`catalog.json`: the committed table files with size, sha256 and row range.

A hint, not a commit: it is rewritten after each commit, and readers that can list do without it.
`verify` holds the files against it; it vouches for itself with a sha256 over its own entries.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from storage.checksums import digest, digest_json
from storage.errors import DamageError
from storage.format.classes import NAME as CLASSES
from storage.format.manifest import NAME as MANIFEST
from storage.format.tables import (
    INDEX,
    PLANS,
    TABLES,
    decode_table,
    is_table_name,
    table_name,
    table_numbers,
)
from storage.format.zarr_metadata import num_shards_of
from storage.format.zarr_shards import ARRAY_METADATA
from storage.objects.protocol import Listing, Objects
from storage.objects.retry import POLICY
from storage.objects.urls import is_remote
from storage.processes import num_cores
from storage.untrusted import MAX_ROW, check_plain, parse_json, record_of, sha256_of, whole_of

NAME = "catalog.json"
FORMAT = "melbank catalog"
LARGE_BYTES = 2**26  # of tables, which are worth several threads
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

    def is_announced(self, name: str) -> bool:
        """True where a listed object may have another content soon, or already."""
        return "next_sha256" in self.entries[name]

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
        document = {"format": FORMAT, "sha256": digest_json(entries), "objects": entries}
        return (json.dumps(document, indent=1) + "\n").encode()

    @classmethod
    def decode(cls, data: bytes) -> "Catalog":
        """Reads a catalogue; raises DamageError unless it is whole."""
        try:
            document = record_of(parse_json(data))
            if document.get("format") != FORMAT:
                raise ValueError(f"it is no {FORMAT}")
            entries = record_of(document.get("objects"), "`objects`")
            if document.get("sha256") != digest_json(entries):
                raise ValueError("its entries differ from their checksum")
            for name, entry in entries.items():
                _check_entry(name, entry)
        except ValueError as error:
            raise DamageError(f"{NAME} is damaged ({error}): run tools.verify --repair") from error
        return cls(entries)

    @classmethod
    def read(cls, objects: Objects) -> "Catalog":
        """The catalogue of a store; an empty one where it is missing."""
        return cls.decode(objects.get(NAME)) if objects.exists(NAME) else cls()


@dataclass(slots=True)
class ListedTables:
    """Reads tables of a store and holds them against its catalogue, as far as that lists them.

    A catalogue that is damaged is no hint: tools.verify names it, and readers do without.
    """

    objects: Objects
    catalog: Catalog | None = None

    def get_many(self, names: Sequence[str]) -> list[bytes]:
        """Bytes of several tables, in order; DamageError on one that is not what was written."""
        found = dict(zip(names, self.objects.get_many(names), strict=True))
        wrong = self._wrong(found)
        for _ in range(POLICY.reads):
            if not wrong:
                break
            self.catalog = None  # a build has replaced them, perhaps: each is announced there
            found |= zip(wrong, self.objects.get_many(wrong), strict=True)
            wrong = self._wrong({name: found[name] for name in wrong})
        if wrong and not (is_remote(self.objects.url) and table_numbers(self.objects, PLANS)):
            raise DamageError(
                f"{self.objects.describe(wrong[0])} is not what was written: its sha256 is not "
                f"that in {NAME}; run tools.verify --repair"
            )
        return list(found.values())

    def check_parts(self, parts: Sequence[int]) -> None:
        """Raises DamageError where the index of a listed part is gone: it would not be missed."""
        self._wrong({})
        known = {table_name(INDEX, part) for part in parts}
        for name in self.catalog.entries if self.catalog else ():
            lost = name.startswith(f"{INDEX}/") and name not in known
            if lost and not self.objects.exists(name):  # else a build has committed it meanwhile
                raise DamageError(
                    f"{self.objects.describe(name)} is missing: run tools.verify --repair"
                )

    def key_of(self, names: Sequence[str]) -> str | None:
        """Returns a name for the content of tables, in hex, as the catalogue has it.

        None where it lacks one of them, one is about to be replaced, or has another size.
        """
        entries = {name: self.listed().entries.get(name, {}) for name in names}
        if any("sha256" not in one or "next_sha256" in one for one in entries.values()):
            return None
        if self.objects.sizes(names) != {name: one["size"] for name, one in entries.items()}:
            return None
        return digest_json([[name, one["sha256"]] for name, one in entries.items()])

    def listed(self) -> Catalog:
        """Returns the catalogue, read at first use; an empty one where there is none."""
        if self.catalog is None:
            self.catalog = Catalog()
            with suppress(DamageError):
                self.catalog = Catalog.read(self.objects)
        return self.catalog

    def _wrong(self, found: dict[str, bytes]) -> list[str]:
        self.catalog = self.listed()
        listed = {name: data for name, data in found.items() if self.catalog.knows(name)}
        if sum(map(len, listed.values())) < LARGE_BYTES:
            return [name for name, data in listed.items() if not self.catalog.matches(name, data)]
        with ThreadPoolExecutor(num_cores()) as threads:  # hashing leaves Python's lock
            right = threads.map(self.catalog.matches, listed, listed.values())
            return [name for name, is_right in zip(listed, right, strict=True) if not is_right]


def check_indexes(objects: Objects, catalog: Catalog) -> None:
    """Raises DamageError where a listed index is gone: its slices would pass for leftovers."""
    there = objects.list(INDEX)
    for name in catalog.entries:
        if name.startswith(f"{INDEX}/") and name not in there:
            raise DamageError(f"{objects.describe(name)} is missing: run tools.verify --repair")


def _check_entry(name: str, entry: Any) -> None:
    """Raises ValueError on an entry that is not of an object of a store, or lacks its facts."""
    record_of(entry, f"the entry of {name!r}")
    if not (is_table_name(name) or name == ARRAY_METADATA or name.endswith(".json")):
        raise ValueError(f"{name!r} is no object of a store")
    check_plain(name, flat=name.endswith(".json") and name != ARRAY_METADATA)
    if "sha256" in entry or "next_sha256" not in entry:
        sha256_of(entry, "sha256")
        whole_of(entry, "size")
    if "next_sha256" in entry:
        sha256_of(entry, "next_sha256")
    for key in ("first_row", "last_row", "num_shards"):
        if key in entry:
            whole_of(entry, key, most=MAX_ROW)


def _row_range(index: bytes) -> dict[str, int]:
    rows = decode_table(INDEX, index, "the index", ["row"])["row"]
    return {"first_row": int(rows[0]), "last_row": int(rows[-1])} if len(rows) else {}
