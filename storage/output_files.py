"""Files that are put in place when they are complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import StoreError


@contextmanager
def output_file(target: Path) -> Iterator[Path]:
    """A path next to the target, which takes its place at the end; nothing is left half written.

    Raises StoreError where the disk refuses.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(target)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"{target} cannot be written ({error.strerror or error}): free space or give another "
            "path"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
