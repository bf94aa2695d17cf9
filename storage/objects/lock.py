"""One builder at a time on a local store. The lock ends with its process: it cannot go stale.

Builders of shares hold it together; the last one of them to end has it alone.

On an object store there is none, since it could. Two builds at once are harmless there: what is
committed is created, never overwritten, and the second one plans its work again after.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from storage.errors import StoreError
from storage.objects.local import LocalObjects
from storage.objects.protocol import Objects

NAME = ".lock"
PATIENCE_S = 60.0  # of a share, while another one closes the store
POLL_S = 0.1


@contextmanager
def builder_lock(objects: Objects) -> Iterator[None]:
    """Holds the store for writing; raises StoreError where another build is at work."""
    if not isinstance(objects, LocalObjects):
        objects.check_writable()
        yield
        return
    with hold_lock(objects.path(NAME), _busy(objects)):
        yield


@contextmanager
def share_lock(objects: Objects) -> Iterator[None]:
    """Holds the store together with builders of other shares; StoreError where one has it alone.

    One that closes the store has it alone for a moment, so this waits for `PATIENCE_S`.
    """
    if not isinstance(objects, LocalObjects):
        objects.check_writable()
        yield
        return
    with hold_lock(objects.path(NAME), _busy(objects), shared=True, patience_s=PATIENCE_S):
        yield


@contextmanager
def last_lock(objects: Objects) -> Iterator[bool]:
    """Holds the store alone, for the builder that ends last; yields False where others are at work.

    Each builder asks for it once it has let go of its share: those before the last one find others
    at work, and the last one finds all that these have committed. In a bucket it is always True.
    """
    with ExitStack() as stack:
        is_last = not isinstance(objects, LocalObjects)
        if isinstance(objects, LocalObjects):
            with suppress(StoreError):
                stack.enter_context(hold_lock(objects.path(NAME), _busy(objects)))
                is_last = True
        yield is_last


def _busy(objects: Objects) -> str:
    return f"another build is at work on {objects.url}: wait for it, then run this again"


@contextmanager
def hold_lock(
    path: Path, busy: str, *, shared: bool = False, patience_s: float = 0.0
) -> Iterator[None]:
    """Holds a file of a local folder, which is made; StoreError, saying `busy`, if others do.

    `shared`: together with others that say so. `patience_s`: how long to wait for others.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a link in its place might lead to a file that is wanted
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise StoreError(
            f"the folder {path.parent} cannot be made, or written to ({error.strerror}): give "
            "another"
        ) from error
    with open(descriptor, "w") as file:
        give_up = time.monotonic() + patience_s
        while not try_lock(file.fileno(), path, shared=shared):
            if time.monotonic() >= give_up:
                raise StoreError(busy)
            time.sleep(POLL_S)
        yield


def try_lock(descriptor: int, path: Path, *, shared: bool = False) -> bool:
    """Tries to lock the open file; False while others hold it, StoreError where none can."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise StoreError(
            f"{path} cannot be locked: {error.strerror}: mount this file system with locks "
            "(Lustre: -o flock), or use another one"
        ) from error
    return True
