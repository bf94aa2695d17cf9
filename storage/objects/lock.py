"""One builder at a time on a local store. The lock ends with its process: it cannot go stale.

On an object store there is none, since it could. Two builds at once are harmless there: what is
committed is created, never overwritten, and the second one plans its work again after.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import StoreError
from storage.objects.local import LocalObjects
from storage.objects.protocol import Objects

NAME = ".lock"


@contextmanager
def builder_lock(objects: Objects) -> Iterator[None]:
    """Holds the store for writing; raises StoreError where another build is at work."""
    if not isinstance(objects, LocalObjects):
        objects.check_writable()
        yield
        return
    path = objects.path(NAME)
    busy = f"another build is at work on {objects.url}: wait for it, then run this again"
    with hold_lock(path, busy):
        yield


@contextmanager
def hold_lock(path: Path, busy: str) -> Iterator[None]:
    """Holds a file of a local folder, which is made; StoreError, saying `busy`, if others do."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a link in its place might lead to a file that is wanted
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error
    with open(descriptor, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(busy) from error
        yield
