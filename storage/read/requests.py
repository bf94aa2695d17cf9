"""Ranges of objects by many requests at once, through failures.

Sends a hedged request when the first is slow (Dean and Barroso 2013) and repeats failed ones as
`storage.objects.retry` has it. obstore itself repeats after a 5xx, a broken connection, and, from
where it broke off, a body that was cut.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError

from storage.errors import StoreError, UnreachableError
from storage.objects.client import Remote, RemoteConfig, open_remote, remote_environment
from storage.objects.retry import POLICY, Attempts

LOWEST_BYTES = 16 * 2**20  # of the prefetch window, until something was measured; 400 slices
_WEIGHT = 0.2  # of the newest rate
_FADING = 0.995  # of the slowest answer, with each faster one

Answer = TypeVar("Answer")


@dataclass(slots=True, kw_only=True)
class Pace:
    """Prefetch window: twice the bandwidth-delay product, as measured; the caller has the clock.

    A reader that takes R bytes/s never waits if what it wants next was asked for longer ago than
    the slowest answer takes. Twice that much is asked for, so the amount grows while it is what
    limits R, and stops where the reader or the line does.
    """

    highest_bytes: int
    rate_bytes_s: float = 0.0
    slowest_s: float = 0.0  # of recent answers
    _last_read_s: float | None = None

    def note_answer(self, took_s: float) -> None:
        """A request was answered."""
        self.slowest_s = max(took_s, self.slowest_s * _FADING)

    def note_read(self, num_bytes: int, at_s: float) -> None:
        """A batch was read."""
        if self._last_read_s is not None and at_s > self._last_read_s:
            rate = num_bytes / (at_s - self._last_read_s)
            self.rate_bytes_s += _WEIGHT * (rate - self.rate_bytes_s)
        self._last_read_s = at_s

    @property
    def ahead_bytes(self) -> int:
        """Size of the prefetch window, bytes."""
        wanted = int(2 * self.rate_bytes_s * self.slowest_s)
        return min(max(wanted, LOWEST_BYTES), self.highest_bytes)


class Fetcher:
    """Requests of one reader: at most `remote.in_flight` at a time, in the order of asking.

    Its coroutines run in the background loop.
    """

    def __init__(self, config: RemoteConfig) -> None:
        self.config = config
        self.pace = Pace(highest_bytes=config.prefetch_bytes)
        self.num_requests = 0
        self._slots = asyncio.Semaphore(config.in_flight)

    async def fetch(self, url: str, begin: int, end: int) -> Any:
        """The bytes [begin, end) of an object, as a buffer; fewer where it ends before.

        Raises what `storage.objects.failures.explain` makes of failures.
        """
        remote, key = locate(url, self.config)

        def ask() -> Awaitable[Any]:
            return obstore.get_range_async(remote.store, key, start=begin, end=end)

        return await self._answer(remote, key, ask)

    async def head(self, url: str) -> Any:
        """Metadata of an object on the server: size, e_tag, last_modified."""
        remote, key = locate(url, self.config)
        return await self._answer(remote, key, lambda: obstore.head_async(remote.store, key))

    async def _answer(
        self, remote: Remote, key: str, ask: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        async with self._slots:
            attempts = Attempts(self.config.timeout_s)
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
                    self.num_requests += 1
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
