"""Brings whole shards from object stores into the cache, in the background of ranged reading.

Nobody waits for a shard: until it is whole its slices are read by ranges, and kept, so that each
comes once. So the first batch comes at once, and the cache fills in the order in which shards are
needed, on what ranged reading leaves of the line (`storage.read.pace.Line`).
"""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import StoreError
from storage.objects.client import RemoteConfig
from storage.objects.retry import POLICY
from storage.read.cache import ShardCache, ShardClaim, shard_key
from storage.read.kept import KeptSlices
from storage.read.pace import PIECES_AT_ONCE, Line
from storage.read.requests import Fetcher

PIECE_BYTES = 8 * 2**20
_UNWRITTEN_BYTES = 32 * 2**20  # of slices to be kept; with more, none are taken
_LOOK_EVERY_S = 1.0  # for a shard that another process may have brought
_SHARDS_AT_ONCE = 2  # the pieces of both are `PIECES_AT_ONCE` at most

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Version:
    """An object as the server has it now."""

    key: str
    size_bytes: int


class ShardDownloads:
    """The downloads of one process into one cache. Its coroutines run in the background loop.

    `line` is for those who read ranges of the same shards. The other methods may be called from
    any thread.
    """

    def __init__(self, cache: ShardCache, config: RemoteConfig) -> None:
        self.line = Line()
        self._cache = cache
        self._kept = KeptSlices(cache)
        self._fetcher = Fetcher(config)  # of its own, so that readers never wait for it
        self._versions: dict[str, _Version] = {}
        self._whole: set[str] = set()  # seen here; each may have been evicted since
        self._look_after_s: dict[str, float] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._not_before_s: dict[str, float] = {}
        self._slots = asyncio.Semaphore(_SHARDS_AT_ONCE)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="kept-slices")
        self._unwritten_bytes = 0
        self._lock = threading.Lock()
        self._broken = False

    async def hold(self, urls: Sequence[str]) -> None:
        """Starts the download of missing shards.

        Waits for the versions on the server where the cache may have some already, so that these
        are read from there from the first batch on.
        """
        unknown = [url for url in urls if url not in self._versions and self._is_due(url)]
        if unknown and self._may_hold_some():
            await asyncio.gather(*(self._find(url) for url in unknown))
        for url in urls:
            if not self.is_whole(url) and not self._broken and url not in self._under_way:
                self._begin(url)

    def is_whole(self, url: str) -> bool:
        """True where a shard is here and complete; one of another process, after a second."""
        if url in self._whole:
            return True
        version, now_s = self._versions.get(url), time.monotonic()
        if version is None or now_s < self._look_after_s.get(url, 0.0):
            return False
        self._look_after_s[url] = now_s + _LOOK_EVERY_S
        with self._giving_up():
            if self._cache.holds(version.key):
                self._whole.add(url)
        return url in self._whole

    def has_kept(self, url: str, offsets: np.ndarray) -> np.ndarray:
        """Returns a mask, bool [n], of the slices of a shard that were kept."""
        version = self._versions.get(url)
        if version is None:
            return np.zeros(len(offsets), bool)
        return self._kept.has(version.key, offsets)

    def keep(self, url: str, slices: list[tuple[int, memoryview]]) -> None:
        """Keeps slices, (offset, stored bytes) with a right checksum, until their shard is whole.

        They are written by a thread. Nothing happens where the disk is slower than the line, or
        where the server has not told the version of the shard yet.
        """
        version = self._versions.get(url)
        num_bytes = sum(len(data) for _, data in slices)
        with self._lock:
            if version is None or self._broken or self._unwritten_bytes > _UNWRITTEN_BYTES:
                return
            self._unwritten_bytes += num_bytes
        self._writer.submit(self._write, version, slices, num_bytes)

    def _write(
        self, version: _Version, slices: list[tuple[int, memoryview]], num_bytes: int
    ) -> None:
        try:
            with self._giving_up():
                if not self._broken:
                    self._kept.put(version.key, version.size_bytes, slices)
        finally:
            with self._lock:
                self._unwritten_bytes -= num_bytes

    def open(self, url: str) -> int:
        """A descriptor of a shard; FileNotFoundError where it is not here (any more)."""
        version = self._versions.get(url)
        file = None
        if version is not None:
            file = self._cache.open(version.key, version.size_bytes)
        if file is None:
            raise FileNotFoundError(f"{url} is not in the cache")
        return file

    def open_kept(self, url: str) -> int:
        """A descriptor of the kept slices of a shard; FileNotFoundError where there are none."""
        version = self._versions.get(url)
        if version is None:
            raise FileNotFoundError(f"nothing is kept of {url}")
        return self._kept.open(version.key)

    def distrust(self, url: str) -> None:
        """Deletes a shard whose bytes differ from what they should be; it is fetched again."""
        self._whole.discard(url)
        self._look_after_s.pop(url, None)
        version = self._versions.pop(url, None)
        if version is not None:
            with self._giving_up():
                self._cache.discard(version.key)

    def distrust_kept(self, url: str, offset: int) -> None:
        """Forgets a kept slice whose bytes differ from what they should be."""
        version = self._versions.get(url)
        if version is not None:
            with self._giving_up():
                self._kept.forget(version.key, offset)

    async def finish(self) -> None:
        """Waits until all that has begun is here, or was given up."""
        while self._under_way:
            await asyncio.wait(list(self._under_way.values()))
        await asyncio.wrap_future(self._writer.submit(lambda: None))

    def _may_hold_some(self) -> bool:
        is_empty = True
        with self._giving_up():
            is_empty = self._cache.is_empty()
        return not is_empty

    def _is_due(self, url: str) -> bool:
        return time.monotonic() >= self._not_before_s.get(url, 0.0)

    async def _find(self, url: str) -> None:
        """Learns the version of an object, unless the server does not tell."""
        try:
            await self._learn_version(url)
        except StoreError as error:
            self._put_off(url, error)

    def _put_off(self, url: str, error: StoreError) -> None:
        self._not_before_s[url] = time.monotonic() + POLICY.recache_after_s
        _log.info("not cached: %s", error)

    def _begin(self, url: str) -> None:
        if self._is_due(url):
            task = asyncio.get_running_loop().create_task(self._download(url))
            self._under_way[url] = task
            task.add_done_callback(lambda _: self._under_way.pop(url))

    async def _learn_version(self, url: str) -> _Version:
        """Returns the version of an object; asks the server at first, and later never."""
        version = self._versions.get(url)
        if version is None:
            version = self._versions[url] = await _ask_version(url, self._fetcher)
            with self._giving_up():
                self._kept.find(version.key, version.size_bytes)
        return version

    async def _download(self, url: str) -> None:
        """Fetches one shard; a failure leaves it to the ranged requests, and to another time."""
        try:
            with self._giving_up():
                await self._bring(url)
        except StoreError as error:
            self._put_off(url, error)
        except RuntimeError:
            if not self._is_ending():
                raise

    async def _bring(self, url: str) -> None:
        version = await self._learn_version(url)
        async with self._slots:
            if self._broken or self.is_whole(url):
                return
            self._not_before_s[url] = time.monotonic() + POLICY.recache_after_s
            claim = await asyncio.to_thread(self._cache.claim, version.key, version.size_bytes)
            if claim is not None:
                with claim:
                    await self._fill(claim, url, version)

    def _is_ending(self) -> bool:
        """True once the interpreter ends: from then on no thread takes any work."""
        try:
            self._writer.submit(int)
        except RuntimeError:
            return True
        return False

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        """An error of the folder is logged once, and ends caching; reading goes on without."""
        try:
            yield
        except StoreError:  # of the server
            raise
        except OSError as error:
            if not self._broken:
                self._broken = True
                _log.warning(
                    "%s takes no more shards (%s): slices are read by ranged requests instead; "
                    "free space, or set remote.cache_dir",
                    self._cache.folder,
                    error.strerror,
                )

    async def _fill(self, claim: ShardClaim, url: str, version: _Version) -> None:
        begins = iter(range(0, version.size_bytes, PIECE_BYTES))

        async def bring() -> None:
            for begin in begins:
                end = min(begin + PIECE_BYTES, version.size_bytes)
                async with self.line.piece():  # until it is written: so few are in memory
                    data = await self._fetcher.fetch(url, begin, end)
                    if len(data) != end - begin:
                        raise StoreError(f"{url} has become shorter")
                    await asyncio.to_thread(claim.write, memoryview(data), begin)

        done = await asyncio.gather(
            *(bring() for _ in range(PIECES_AT_ONCE)), return_exceptions=True
        )
        for error in done:
            if error is not None:
                raise error
        if await _ask_version(url, self._fetcher) != version:
            raise StoreError(f"{url} was replaced meanwhile")
        await asyncio.to_thread(claim.commit)
        self._whole.add(url)
        self._writer.submit(self._kept.drop, version.key)  # a disk may take its time to free them
        self._not_before_s.pop(url)


@lru_cache(maxsize=4)
def shared_downloads(folder: Path, config: RemoteConfig) -> ShardDownloads:
    """The downloads of this process into a folder: they go on while readers come and go."""
    return ShardDownloads(ShardCache(folder, limit_bytes=config.cache_bytes), config)


async def _ask_version(url: str, fetcher: Fetcher) -> _Version:
    head: Any = await fetcher.head(url)
    version = str(head["e_tag"] or head["last_modified"])
    key = shard_key(url, size_bytes=head["size"], version=version)
    return _Version(key=key, size_bytes=head["size"])
