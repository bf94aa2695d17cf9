"""Files of an experiment that are whole or absent, also where the disk is full or a kill comes."""

from contextlib import suppress
from pathlib import Path

from storage.errors import StoreError


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file, in the place of an older one only when all of it is on disk.

    Raises StoreError where the disk refuses; the older one then stays.
    """
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise StoreError(
            f"{path} ({len(data):,} bytes) cannot be written: {error.strerror}: free space, then "
            "train again, with --resume where a checkpoint is kept"
        ) from error
