"""Extents of files and of object stores by one reader."""

from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np

from storage.objects.client import CACHED, DEFAULT, RemoteConfig
from storage.read.downloads import shared_downloads
from storage.read.extents import AnnouncedRead, BadExtent, ExtentReader, Extents, check_none_bad
from storage.read.ranged import RemoteReader


class SliceReader(AbstractContextManager["SliceReader"]):
    """Reads extents wherever they are: `ExtentReader` for files, `RemoteReader` for URLs.

    `mode` is `ranged` or `cached`; None takes `remote.mode`, of which `auto` means ranged to who
    knows no plan. Nothing is opened before it is needed. Safe to use from several threads.
    """

    def __init__(
        self, remote: RemoteConfig = DEFAULT, *, check: bool = True, mode: str | None = None
    ) -> None:
        self._config = remote
        self._check = check
        self._mode = mode
        self._local = ExtentReader(check=check)
        self._remote: RemoteReader | None = None

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process: a reader with nothing open."""
        return partial(SliceReader, self._config, check=self._check, mode=self._mode), ()

    @property
    def wants_more(self) -> bool:
        """True while more than the next batch should be announced."""
        return self._remote is not None and self._remote.wants_more

    def close(self) -> None:
        """Closes all files and calls off all requests; the reader may be used again."""
        self._local.close()
        if self._remote is not None:
            self._remote.close()

    def interrupt(self) -> None:
        """Ends, from another thread, a reading that waits for an object store: CancelledError."""
        if self._remote is not None:
            self._remote.interrupt()

    def release_files(self) -> None:
        """Closes the files, so that they are opened again; requests go on."""
        self._local.close()
        if self._remote is not None:
            self._remote.release_files()

    def read(self, wanted: Extents | AnnouncedRead, out: np.ndarray) -> None:
        """Fills `out` [n, ...] with decoded slices; raises DamageError at the first bad one."""
        check_none_bad(self.try_read(wanted, out), len(out))

    def try_read(self, wanted: Extents | AnnouncedRead, out: np.ndarray) -> list[BadExtent]:
        """Fills `out` [n, ...] with decoded slices; returns those that could not be had.

        The cells of a bad slice are zero. Raises RemoteError, of which AccessError and
        UnreachableError are kinds, or ObjectMissingError where an object store gives nothing.
        """
        extents = wanted.extents if isinstance(wanted, AnnouncedRead) else wanted
        if not extents.remote:
            return self._local.try_read(extents, out)
        return self._remote_reader().try_read(wanted, out)

    def announce(self, extents: Extents) -> AnnouncedRead:
        """Requests extents, or has the kernel fetch them, ahead of reading by the handle."""
        if extents.remote:
            return self._remote_reader().announce(extents)
        self._local.will_need(extents)
        return AnnouncedRead(extents=extents)

    def _remote_reader(self) -> RemoteReader:
        if self._remote is None:
            config = self._config
            is_cached = (self._mode or config.mode) == CACHED
            downloads = shared_downloads(config.cache_folder, config) if is_cached else None
            self._remote = RemoteReader(config, check=self._check, downloads=downloads)
        return self._remote
