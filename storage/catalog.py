"""`catalog.json`: the committed table files with size, sha256 and row range.

A hint, not a commit: it is rewritten after each commit, and readers that can list do without it.
`verify` holds the files against it; it vouches for itself with a sha256 over its own entries.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from storage.errors import DamageError
from storage.objects import LocalObjects, digest

NAME = "catalog.json"

Entry = dict[str, Any]


@dataclass(slots=True)
class Catalog:
    """Object name -> {size, sha256}."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def add(self, name: str, data: bytes, **more: int) -> None:
        """Notes an object that was put."""
        self.entries[name] = {"size": len(data), "sha256": digest(data), **more}

    def drop(self, name: str) -> None:
        """Forgets an object that was deleted."""
        self.entries.pop(name, None)

    def encode(self) -> bytes:
        """The file's bytes."""
        entries = dict(sorted(self.entries.items()))
        document = {"format": "melbank catalog", "sha256": _seal(entries), "objects": entries}
        return (json.dumps(document, indent=1) + "\n").encode()

    @classmethod
    def decode(cls, data: bytes) -> "Catalog":
        """Reads a catalogue; raises DamageError unless it is whole."""
        try:
            document = json.loads(data)
            entries = document["objects"]
            sound = document["format"] == "melbank catalog" and document["sha256"] == _seal(entries)
        except (ValueError, KeyError, TypeError) as error:
            raise DamageError(f"{NAME} is damaged: {error!r}") from error
        if not sound:
            raise DamageError(f"{NAME} is damaged: its entries differ from their checksum")
        return cls(entries)

    @classmethod
    def read(cls, objects: LocalObjects) -> "Catalog":
        """The catalogue of a store; an empty one where it is missing."""
        return cls.decode(objects.get(NAME)) if objects.exists(NAME) else cls()


def _seal(entries: dict[str, Entry]) -> str:
    return digest(json.dumps(entries, sort_keys=True).encode())
