"""Ranges come in order of asking, within bounds, by the quicker of two ways, or not at all."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from storage.errors import ConfigError, UnreachableError
from storage.objects.client import RemoteConfig
from storage.objects.direct import DirectTarget
from storage.objects.keep_alive import RangeRequest
from storage.objects.retry import RetryPolicy
from storage.read import range_queue
from storage.read.pace import Pace
from storage.read.range_queue import RangeQueue, WantedRange
from storage.read.requests import Fetcher

QUICK = RetryPolicy(hedge_after_s=0.05, first_pause_s=0.001)


@dataclass
class FakeServer:
    """Answers after `wait_s` with the beginning of the range, or with None where that fails.

    Not before `may_answer`.
    """

    wait_s: float = 0.0
    may_answer: Callable[[], bool] = lambda: True
    fails: bool = False
    is_suited: bool = True
    most: int = 0
    noted: list[bool] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    under_way: set[int] = field(default_factory=set)

    def ask(self, request: RangeRequest) -> None:
        self.asked.append(request.begin)
        self.under_way.add(request.begin)
        self.most = max(self.most, len(self.under_way))
        asyncio.get_running_loop().call_later(self.wait_s, self.answer, request)

    def answer(self, request: RangeRequest) -> None:
        if not self.may_answer():
            asyncio.get_running_loop().call_later(0.01, self.answer, request)
            return
        self.under_way.discard(request.begin)
        body = None if self.fails else memoryview(b"direct %d" % request.begin)
        request.finish(body)

    def note(self, *, is_answered: bool) -> None:
        self.noted.append(is_answered)


@dataclass
class FakeStore:
    """Obstore: answers, or raises, after `wait_s`."""

    wait_s: float = 0.0
    error: Exception | None = None
    asked: list[int] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)

    async def ask(self, _: str, begin: int, __: int, passed_s: float) -> bytes:
        self.asked.append(begin)
        assert passed_s >= 0
        await asyncio.sleep(self.wait_s)
        if self.error is not None:
            raise self.error
        return b"again %d" % begin


def queue_of(store: FakeStore, in_flight: int = 4) -> RangeQueue:
    pace = Pace(highest_bytes=2**20)
    forget = store.forgotten.append
    return RangeQueue(in_flight=in_flight, pace=pace, ask_again=store.ask, forget=forget)


def fetch(queue: RangeQueue, server: Any, number: int = 10) -> Coroutine[Any, Any, list[Any]]:
    target = None
    if server is not None:
        target = DirectTarget(server=server, path="/a", until_s=0.0)
    ranges = [WantedRange(url="u", begin=n, end=n + 5, target=target) for n in range(number)]
    return queue.fetch_all(ranges)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_queue, "POLICY", QUICK)
    monkeypatch.setattr(range_queue, "_WATCH_EVERY_S", 0.02)


def test_all_come_in_order_and_so_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_queue, "POLICY", RetryPolicy(hedge_after_s=60.0))
    server, store = FakeServer(wait_s=0.001), FakeStore()
    answers = asyncio.run(fetch(queue_of(store), server))
    assert [bytes(one) for one in answers] == [b"direct %d" % n for n in range(10)]
    assert server.asked == list(range(10))
    assert server.most == 4
    assert server.noted == [True] * 10
    assert store.asked == []
    assert asyncio.run(fetch(queue_of(store), server, 0)) == []


@pytest.mark.parametrize(
    "server", [FakeServer(fails=True), FakeServer(is_suited=False), FakeServer(wait_s=60.0), None]
)
def test_what_does_not_come_directly_is_asked_for_again(server: FakeServer | None) -> None:
    store = FakeStore()
    answers = asyncio.run(fetch(queue_of(store), server))
    assert answers == [b"again %d" % n for n in range(10)]
    assert sorted(store.asked) == list(range(10))
    assert len(store.forgotten) == (10 if server is not None and server.fails else 0)


def test_a_late_answer_counts_if_it_is_the_first() -> None:
    store = FakeStore(wait_s=60.0)
    server = FakeServer(may_answer=lambda: len(store.asked) == 3)
    answers = asyncio.run(fetch(queue_of(store), server, 3))
    assert [bytes(one) for one in answers] == [b"direct %d" % n for n in range(3)]
    assert store.asked == [0, 1, 2]


@pytest.mark.parametrize(
    "error", [UnreachableError("gone"), ConfigError("gone"), OverflowError("gone")]
)
def test_what_fails_both_ways_is_raised_and_the_rest_called_off(error: Exception) -> None:
    server, store = FakeServer(fails=True), FakeStore(error=error)
    queue = queue_of(store)

    async def work() -> list[Any]:
        with pytest.raises(type(error), match="gone"):
            await fetch(queue, server, 100)
        assert len(server.asked) < 100
        server.fails = False
        return await fetch(queue, server, 3)  # others go on

    assert len(asyncio.run(work())) == 3


def test_a_batch_that_is_called_off_gives_way() -> None:
    server, store = FakeServer(wait_s=0.01), FakeStore()
    queue = queue_of(store)

    async def work() -> list[Any]:
        first = asyncio.create_task(fetch(queue, server, 100))
        second = asyncio.create_task(fetch(queue, server, 2))
        await asyncio.sleep(0.005)
        first.cancel()
        return await second

    assert len(asyncio.run(work())) == 2
    assert len(server.asked) < 20


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize(("begin", "end"), [(5, 5), (5, 2), (-5, 5)])
def test_a_range_without_bytes_is_empty_and_costs_nothing(
    begin: int, end: int, direct: bool
) -> None:
    fetcher = Fetcher(RemoteConfig(direct=direct))
    ranges = [("http://127.0.0.1:9/no-server", begin, end)]
    assert asyncio.run(fetcher.fetch_all(ranges)) == [b""]
    assert fetcher.num_requests == 0
