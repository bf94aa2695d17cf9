"""Files that are derived from tables: each is written whole, checked, and made again when lost.

A name has the sha256 of the tables, so other tables are another file, and a file is never changed.
"""

import logging
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeVar

import polars as pl

from storage.objects.local import sync_folder

TEMPORARY = ".tmp"
CHECKSUMS, RECORDINGS, SLICES, KEYS = ".crc32c", ".recordings", ".slices", ".keys"
KEPT_FILES = 8  # of each kind at least, the last ones used ...
KEPT_BYTES = 16e9  # ... and more of them up to this size
KEPT_S = 24 * 3600.0  # after that long, what a killed process has left is deleted

Found = TypeVar("Found")
_log = logging.getLogger(__name__)


def write_derived(path: Path, write: Callable[[IO[bytes]], bool]) -> bool:
    """Writes a file under a temporary name and moves it to its own; False where `write` gives up.

    Several processes may do so at once: each has its own file, and all files are equal. May raise
    OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path)
    name = f"{path.stem}-{os.getpid()}-{secrets.token_hex(4)}{path.suffix}{TEMPORARY}"
    temporary = path.with_name(name)
    try:
        with temporary.open("x+b") as file:
            if not write(file):
                return False
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def open_or_make(
    folder: Path, what: str, open_it: Callable[[], Found | None], make_it: Callable[[], bool]
) -> Found | None:
    """Opens a derived file, or makes it first; None where it cannot be had.

    A folder that cannot be written to costs a warning, which says `what` is not shared.
    """
    try:
        found = open_it()
        if found is None and make_it():
            found = open_it()
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:  # pyarrow's are ValueErrors
        _log.warning(
            "%s cannot be used (%s): this process keeps %s in its own memory",
            folder,
            getattr(error, "strerror", None) or error,
            what,
        )
        return None
    return found


def note_use(path: Path) -> None:
    """Notes that a file was used now, so that others are deleted before it."""
    with suppress(OSError):  # of another user: its time of use is no matter
        os.utime(path)


def _clear(own: Path) -> None:
    """Deletes what killed processes have left, and files of a kind that were used longest ago."""
    used = []
    for path in own.parent.iterdir():
        with suppress(OSError):  # another process clears, too; or it is another user's
            entry = path.stat()
            if path.suffix == own.suffix and path != own:
                used.append((entry.st_mtime, entry.st_size, path))
            elif path.suffix == TEMPORARY and time.time() - entry.st_mtime > KEPT_S:
                path.unlink()
    total = 0
    for number, (_, size, path) in enumerate(sorted(used, reverse=True), 2):  # after our own
        total += size
        if number > KEPT_FILES and total > KEPT_BYTES:
            with suppress(OSError):
                path.unlink()
