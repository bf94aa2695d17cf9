"""Ranges of objects by many requests at once, through failures.

obstore itself repeats a request three times within a second or two: after a 5xx, a broken
connection, and, from where it broke off, a body that was cut. Here comes what needs patience. An
answer that is overdue is asked for a second time beside the first, and the quicker one is taken. A
server that is away is asked again until `remote.timeout_s` have passed. What would be refused
again is not repeated.
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
from storage.objects.client import Remote, RemoteConfig, backoff_s, open_remote, remote_environment
from storage.objects.failures import explain
from storage.read.pace import Pace

Answer = TypeVar("Answer")

_OVERDUE_S = 2.0  # at least; else so many times what the slowest answer took
_OVERDUE = 4
_ASKED_AT_ONCE = 3


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
        remote, key = locate(url)

        def ask() -> Awaitable[Any]:
            return obstore.get_range_async(remote.store, key, start=begin, end=end)

        return await self._answer(remote, key, ask)

    async def head(self, url: str) -> Any:
        """What the server knows of an object: size, e_tag, last_modified."""
        remote, key = locate(url)
        return await self._answer(remote, key, lambda: obstore.head_async(remote.store, key))

    async def _answer(
        self, remote: Remote, key: str, ask: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        async with self._slots:
            give_up_s = time.monotonic() + self.config.timeout_s
            attempt = 0
            problem: StoreError = UnreachableError(
                f"{remote.describe(key)}: {remote.endpoint} gave no answer in "
                f"{self.config.timeout_s:g} s: check the network, or raise remote.timeout_s"
            )
            while True:
                try:
                    async with asyncio.timeout(give_up_s - time.monotonic()):
                        return await self._ask(ask)
                except TimeoutError:
                    raise problem from None
                except (BaseError, OSError) as error:
                    problem = explain(error, remote, key)
                    wait_s = backoff_s(attempt)
                    too_late = time.monotonic() + wait_s > give_up_s
                    if too_late or not isinstance(problem, UnreachableError):
                        raise problem from None  # the cause would show what is signed
                await asyncio.sleep(wait_s)
                attempt += 1

    async def _ask(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """The first answer to a question that is put again beside itself while it is overdue."""
        wait_s = max(_OVERDUE_S, _OVERDUE * self.pace.slowest_s)
        asked: dict[asyncio.Future[Answer], float] = {}  # with when
        try:
            while True:
                if len(asked) < _ASKED_AT_ONCE:
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


def locate(url: str) -> tuple[Remote, str]:
    """The opened bucket, or web server, of an object, and its key there."""
    parts = urlsplit(url)
    folder, _, name = url.removeprefix(f"{parts.scheme}://{parts.netloc}").rpartition("/")
    root = f"{parts.scheme}://{parts.netloc}"
    key = "/".join(part for part in [*unquote(folder).split("/"), name] if part)
    return _open(root, tuple(sorted(remote_environment().items()))), key


@lru_cache(maxsize=8)
def _open(root: str, environment: tuple[tuple[str, str], ...]) -> Remote:
    """One client, with its connections, for all readers of a bucket; anew with other variables."""
    return open_remote(root)
