"""Ranges of objects by many requests at once, through failures.

Sends a hedged request when the first is slow (Dean and Barroso 2013) and repeats failed ones as
`storage.objects.retry` has it. obstore itself repeats after a 5xx, a broken connection, and, from
where it broke off, a body that was cut.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError

from storage.errors import StoreError, UnreachableError
from storage.objects.client import Remote, RemoteConfig, open_remote, remote_environment
from storage.objects.failures import explain
from storage.objects.retry import POLICY, Attempts
from storage.read.pace import Pace

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Fetcher:
    """Requests of one reader: at most `remote.in_flight` at a time, in the order of asking.

    Its coroutines run in the background loop.
    """

    config: RemoteConfig
    pace: Pace = field(init=False)
    num_requests: int = 0
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.pace = Pace(highest_bytes=self.config.prefetch_bytes)
        self._slots = asyncio.Semaphore(self.config.in_flight)

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
                    problem = explain(error, remote.describe(key), remote.endpoint)
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
    folder, _, name = url.removeprefix(f"{parts.scheme}://{parts.netloc}").rpartition("/")
    root = f"{parts.scheme}://{parts.netloc}"
    key = "/".join(part for part in [*unquote(folder).split("/"), name] if part)
    return _open(root, config, tuple(sorted(remote_environment().items()))), key


@lru_cache(maxsize=8)
def _open(root: str, config: RemoteConfig, _: tuple[tuple[str, str], ...]) -> Remote:
    """One client, with its connections, for all readers of a bucket; again with other variables."""
    return open_remote(root, config)
