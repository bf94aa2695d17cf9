"""Keeps what C libraries print off the terminal: libmpg123, in libsndfile, prints what it decodes.

    with quiet_c_stderr():
        file.read()

The descriptor 2 stays as it is, so that Python's own messages, those of other threads too, come
through: glibc's `stderr` is a variable that programs may set ("Standard Streams" in its manual).
Other C libraries have none that is safe to set: nothing is done there.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_LOCK = threading.Lock()


@dataclass(slots=True)
class _CStderr:
    """The variable `stderr`, and a stream that leads nowhere; counts those who want it so."""

    variable: ctypes.c_void_p
    nowhere: int
    users: int = 0
    before: int | None = None

    def add(self, users: int) -> None:
        """Sets the variable with the first user, and back with the last one."""
        if self.users == 0:
            self.before, self.variable.value = self.variable.value, self.nowhere
        self.users += users
        if self.users == 0:
            self.variable.value = self.before


@functools.cache
def _c_stderr() -> _CStderr | None:
    """Returns the variable of glibc; None with another C library."""
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if libc is None or not hasattr(libc, "gnu_get_libc_version"):
        return None
    libc.fopen.restype = ctypes.c_void_p
    nowhere = libc.fopen(os.devnull.encode(), b"we")
    if not nowhere:
        return None
    return _CStderr(variable=ctypes.c_void_p.in_dll(libc, "stderr"), nowhere=nowhere)


@contextmanager
def quiet_c_stderr() -> Iterator[None]:
    """Drops what C libraries of this process print to stderr, in all threads, until it ends."""
    with _LOCK:
        stream = _c_stderr()
        if stream is not None:
            stream.add(1)
    try:
        yield
    finally:
        if stream is not None:
            with _LOCK:
                stream.add(-1)
