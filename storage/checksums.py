"""Checksums: crc32c of slices, sha256 of objects and files, digests of JSON documents.

All of them are on disk, or name what is on disk: not a byte of their input may change.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import google_crc32c


def crc32c(data: Any) -> int:
    """Returns the crc32c (Castagnoli, RFC 3720) of a buffer, as an unsigned 32-bit number."""
    return int(google_crc32c.value(data))


def crc32c_bytes(data: Any) -> bytes:
    """Returns the crc32c of a buffer as Zarr appends it: 4 bytes, little endian."""
    return crc32c(data).to_bytes(4, "little")


def ends_with_crc32c(data: bytes) -> bool:
    """True where the last 4 bytes are the crc32c of those before them, of which there are some."""
    return len(data) > 4 and crc32c_bytes(data[:-4]) == data[-4:]


def digest(data: bytes) -> str:
    """Returns the sha256 of an object's bytes, in hex, as the catalogue records it."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Returns the sha256 of a file of any size, in hex; raises OSError where it is unreadable."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(document: Any) -> bytes:
    """Returns a JSON document as bytes that depend on its content alone: with sorted keys."""
    return json.dumps(document, sort_keys=True).encode()


def digest_json(document: Any) -> str:
    """Returns the sha256 of a JSON document, in hex, whatever the order of its keys."""
    return digest(canonical_json(document))
