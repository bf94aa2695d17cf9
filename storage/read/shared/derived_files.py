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

from storage.objects.local import sync_folder

TEMPORARY = ".tmp"
# Suffixes of the kinds, and how many of each are kept: the last ones used
CHECKSUMS, RECORDINGS, SLICES, KEYS = ".crc32c", ".recordings", ".slices", ".keys"
KEPT_FILES = {CHECKSUMS: 32, RECORDINGS: 8, SLICES: 8, KEYS: 16}
KEPT_S = 24 * 3600.0  # after that long, what a killed process has left is deleted

Found = TypeVar("Found")
_log = logging.getLogger(__name__)


def write_derived(path: Path, write: Callable[[IO[bytes]], bool]) -> bool:
    """Writes a file under a temporary name and moves it to its own; False where `write` gives up.

    Several processes may do so at once: each has its own file, and all files are equal. May raise
    OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path.parent, path.suffix)
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
    except OSError as error:
        _log.warning(
            "%s cannot be used (%s): this process keeps %s in its own memory",
            folder,
            error.strerror or error,
            what,
        )
        return None
    return found


def note_use(path: Path) -> None:
    """Notes that a file was used now, so that others are deleted before it."""
    with suppress(OSError):  # of another user: its time of use is no matter
        os.utime(path)


def _clear(folder: Path, suffix: str) -> None:
    """Deletes what killed processes have left, and files of a kind that were used longest ago."""
    used = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process clears, too
            age = path.stat().st_mtime
            if path.suffix == suffix:
                used.append((age, path))
            elif path.suffix == TEMPORARY and time.time() - age > KEPT_S:
                path.unlink()
    surplus = max(0, len(used) + 1 - KEPT_FILES[suffix])  # with the one that is about to come
    for _, path in sorted(used)[:surplus]:
        path.unlink(missing_ok=True)
