"""Files that are put in place when they are complete."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polars.exceptions import PolarsError

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
    except (OSError, PolarsError) as error:
        reason = _refusal(error)
        if reason is None:
            raise
        raise StoreError(
            f"{target} cannot be written ({reason}): free space or give another path"
        ) from error
    finally:
        with suppress(OSError):  # a file system that takes no file would hide the reason
            unfinished.unlink(missing_ok=True)


def _refusal(error: OSError | PolarsError) -> str | None:
    """The reason why the system refuses a file; None for any other error."""
    if isinstance(error, StoreError):
        return None
    if isinstance(error, OSError):
        return error.strerror or str(error)
    found = re.search(r"\(os error (\d+)\)", str(error))  # Polars' own word for a full disk
    return os.strerror(int(found[1])) if found else None
