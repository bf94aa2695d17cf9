"""Ranges of objects by many requests at once, through failures.

Sends a hedged request when the first is slow (Dean and Barroso 2013) and repeats failed ones as
`storage.objects.retry` has it. obstore itself repeats after a 5xx, a broken connection, and, from
where it broke off, a body that was cut.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError

from storage.errors import StoreError, UnreachableError
from storage.objects.client import Remote, RemoteConfig, open_remote, remote_environment
from storage.objects.direct import DirectTarget, direct_target
from storage.objects.retry import POLICY, Attempts
from storage.read.pace import Line, Pace
from storage.read.range_queue import RangeQueue, WantedRange

Answer = TypeVar("Answer")


class Fetcher:
    """Requests of one reader: at most `remote.in_flight` at a time, in the order of asking.

    Ranges on their way are counted on `line`. Its coroutines run in the background loop.
    """

    def __init__(self, config: RemoteConfig, line: Line | None = None) -> None:
        self.config = config
        self.pace = Pace(highest_bytes=config.prefetch_bytes)
        self._num_asked = 0
        self._slots = asyncio.Semaphore(config.in_flight)
        self._targets: dict[str, DirectTarget | None] = {}
        self._queue = RangeQueue(
            in_flight=config.in_flight,
            pace=self.pace,
            ask_again=self._fetch,
            forget=lambda url: self._targets.pop(url, None),
            line=line or Line(),
        )

    @property
    def num_requests(self) -> int:
        """Number of requests so far."""
        return self._num_asked + self._queue.num_requests

    async def fetch_all(self, ranges: Sequence[tuple[str, int, int]]) -> list[Any]:
        """The bytes of ranges (URL, begin, end), as `fetch` returns and raises; directly first."""
        if self.config.direct and ranges:
            await self._find_targets({url for url, _, _ in ranges})
        return await self._queue.fetch_all(
            [
                WantedRange(url=url, begin=begin, end=end, target=self._targets.get(url))
                for url, begin, end in ranges
            ]
        )

    async def fetch(self, url: str, begin: int, end: int) -> Any:
        """The bytes [begin, end) of an object, as a buffer; fewer where it ends before.

        Raises what `storage.objects.failures.explain` makes of failures.
        """
        async with self._slots:
            return await self._fetch(url, begin, end)

    async def head(self, url: str) -> Any:
        """Metadata of an object on the server: size, e_tag, last_modified."""
        remote, key = locate(url, self.config)
        async with self._slots:
            return await self._answer(remote, key, lambda: obstore.head_async(remote.store, key))

    async def _fetch(self, url: str, begin: int, end: int, passed_s: float = 0.0) -> Any:
        """Fetches a range by obstore; `passed_s` of the time for it have passed already."""
        if not 0 <= begin < end:  # a damaged index may say so, and no request can
            return b""
        remote, key = locate(url, self.config)

        def ask() -> Awaitable[Any]:
            return obstore.get_range_async(remote.store, key, start=begin, end=end)

        return await self._answer(remote, key, ask, passed_s)

    async def _find_targets(self, urls: set[str]) -> None:
        """Looks up where objects are asked for directly; signs where that is due."""
        now_s = time.monotonic()
        for url in urls:
            target = self._targets.get(url)
            if url not in self._targets or (target is not None and target.until_s < now_s):
                self._targets[url] = await direct_target(*locate(url, self.config))

    async def _answer(
        self,
        remote: Remote,
        key: str,
        ask: Callable[[], Awaitable[Answer]],
        passed_s: float = 0.0,
    ) -> Answer:
        attempts = Attempts(self.config.timeout_s - passed_s)
        problem: StoreError = UnreachableError(
            f"{remote.describe(key)}: {remote.endpoint} gave no answer in "
            f"{self.config.timeout_s:g} s: check the network, or raise remote.timeout_s"
        )
        while True:
            try:
                async with asyncio.timeout(attempts.left_s):
                    return await self._ask(ask)
            except TimeoutError:
                raise problem from None
            except (BaseError, OSError) as error:
                problem = await asyncio.to_thread(remote.explain, error, key)
                pause_s = attempts.pause_s(problem)
            await asyncio.sleep(pause_s)

    async def _ask(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Returns the first answer; sends hedged requests while it is late."""
        wait_s = max(POLICY.hedge_after_s, POLICY.hedge_factor * self.pace.slowest_s)
        asked: dict[asyncio.Future[Answer], float] = {}  # with when
        try:
            while True:
                if len(asked) < POLICY.hedges:
                    asked[asyncio.ensure_future(ask())] = time.monotonic()
                    self._num_asked += 1
                done, _ = await asyncio.wait(
                    asked, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
                )
                for first in done:
                    self.pace.note_answer(time.monotonic() - asked.pop(first))
                    return first.result()
                wait_s *= 2
        finally:
            for late in asked:
                late.cancel()


def locate(url: str, config: RemoteConfig) -> tuple[Remote, str]:
    """The opened bucket, or web server, of an object, and its key there."""
    parts = urlsplit(url)
    root = f"{parts.scheme}://{parts.netloc}"
    folder, _, name = url.removeprefix(root).rpartition("/")
    key = "/".join(part for part in [*unquote(folder).split("/"), name] if part)
    return _open(root, config, tuple(sorted(remote_environment().items()))), key


@lru_cache(maxsize=8)
def _open(root: str, config: RemoteConfig, _: tuple[tuple[str, str], ...]) -> Remote:
    """One client, with its connections, for all readers of a bucket; again with other variables."""
    return open_remote(root, config)
