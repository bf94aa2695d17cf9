"""Checksums of what is stored: sha256 of objects, crc32c of slices."""

import hashlib
from pathlib import Path
from typing import Any

import google_crc32c


def digest(data: bytes) -> str:
    """sha256 of an object's bytes, in hex, as the catalogue keeps it."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def crc32c(data: Any) -> int:
    """The crc32c (Castagnoli, RFC 3720) of a buffer, as an unsigned 32-bit number."""
    return int(google_crc32c.value(data))
