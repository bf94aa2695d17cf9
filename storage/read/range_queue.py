"""Ranges on their way: in the order of asking, so many at a time, and asked twice where late.

Each range is asked for directly (`storage.objects.keep_alive`). Where that gives nothing, or not in
time, obstore asks again, through failures; the first answer counts. All in the background loop.
"""

import asyncio
import resource
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from storage.objects.direct import DirectTarget
from storage.objects.keep_alive import RangeRequest
from storage.objects.retry import POLICY
from storage.read.pace import Line, Pace

_WATCH_EVERY_S = 0.5


@dataclass(slots=True, kw_only=True, eq=False)
class WantedRange:
    """Bytes [begin, end) of an object; `target` None: only obstore can ask."""

    url: str
    begin: int
    end: int
    target: DirectTarget | None


@dataclass(slots=True, kw_only=True, eq=False)
class _Batch:
    """Ranges that are awaited together."""

    answers: list[Any]
    num_left: int
    done: asyncio.Future[None]


@dataclass(slots=True, kw_only=True, eq=False)
class _Flight:
    """One range: waiting, asked for directly (`request`), by obstore (`task`), or settled."""

    wanted: WantedRange
    batch: _Batch
    number: int
    started_s: float = 0.0
    request: RangeRequest | None = None
    task: asyncio.Task[None] | None = None
    is_settled: bool = False

    def settle(self) -> None:
        """Ends what is still under way."""
        self.is_settled = True
        request, self.request = self.request, None
        if request is not None:
            request.call_off()
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()


@dataclass(slots=True, kw_only=True, eq=False)
class RangeQueue:
    """The ranges of one reader, `in_flight` at a time.

    `ask_again` asks by obstore for (URL, begin, end), of which so many seconds have passed already;
    what it raises where that fails, too, is raised to who waits. `forget` is told the URL of each
    failure.
    """

    in_flight: int
    pace: Pace
    ask_again: Callable[[str, int, int, float], Awaitable[Any]]
    forget: Callable[[str], object]
    line: Line = field(default_factory=Line)
    num_requests: int = 0  # directly
    _waiting: deque[_Flight] = field(default_factory=deque)
    _under_way: dict[_Flight, None] = field(default_factory=dict)
    _watch: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if most != resource.RLIM_INFINITY:  # each is an open file; others need some, too
            self.in_flight = max(1, min(self.in_flight, most // 4))

    async def fetch_all(self, ranges: Sequence[WantedRange]) -> list[Any]:
        """Returns the bytes of all ranges, as buffers; fewer where an object ends before."""
        if not ranges:
            return []
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        batch = _Batch(answers=[None] * len(ranges), num_left=len(ranges), done=done)
        flights = [_Flight(wanted=one, batch=batch, number=i) for i, one in enumerate(ranges)]
        self._waiting.extend(flights)
        self.line.note_ranged(sum(one.end - one.begin for one in ranges))
        self._start()
        try:
            await done
        finally:
            if batch.num_left:  # called off, or one has failed
                for flight in flights:
                    self._end(flight)
                self._start()
        return batch.answers

    def _start(self) -> None:
        """Asks for what waits, as far as there is room."""
        while self._waiting and len(self._under_way) < self.in_flight:
            flight = self._waiting.popleft()
            if flight.is_settled:
                continue
            self._under_way[flight] = None
            flight.started_s = time.monotonic()
            wanted = flight.wanted
            target = wanted.target if 0 <= wanted.begin < wanted.end else None
            if target is None or not target.server.is_suited:
                self._ask_again(flight, 0.0)
            else:
                self._ask(flight, target)
        if self._under_way and self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(_WATCH_EVERY_S, self._look)

    def _ask(self, flight: _Flight, target: DirectTarget) -> None:
        def take(body: memoryview | None) -> None:
            flight.request = None
            target.server.note(is_answered=body is not None)
            if body is not None:
                self.pace.note_answer(time.monotonic() - flight.started_s)
                self._answer(flight, body)
            else:
                self.forget(flight.wanted.url)
                self._ask_again(flight, POLICY.pause_s(0))

        self.num_requests += 1
        wanted = flight.wanted
        flight.request = RangeRequest(
            target=target.path, begin=wanted.begin, end=wanted.end, answer=take
        )
        target.server.ask(flight.request)

    def _ask_again(self, flight: _Flight, pause_s: float) -> None:
        """Has obstore ask, too."""
        if flight.task is None and not flight.is_settled:
            work = self._answer_again(flight, pause_s)
            flight.task = asyncio.get_running_loop().create_task(work)

    async def _answer_again(self, flight: _Flight, pause_s: float) -> None:
        wanted, batch = flight.wanted, flight.batch
        await asyncio.sleep(pause_s)
        passed_s = time.monotonic() - flight.started_s
        try:
            body = await self.ask_again(wanted.url, wanted.begin, wanted.end, passed_s)
        except Exception as error:  # noqa: BLE001 - raised again where the batch is awaited
            if not batch.done.done():
                batch.done.set_exception(error)
        else:
            self._answer(flight, body)

    def _answer(self, flight: _Flight, body: Any) -> None:
        """Takes the first answer."""
        if flight.is_settled:
            return
        self._end(flight)
        batch = flight.batch
        batch.answers[flight.number] = body
        batch.num_left -= 1
        if not batch.num_left and not batch.done.done():
            batch.done.set_result(None)
        self._start()

    def _end(self, flight: _Flight) -> None:
        self._under_way.pop(flight, None)
        if not flight.is_settled:
            self.line.note_ranged(flight.wanted.begin - flight.wanted.end)
        flight.settle()

    def _look(self) -> None:
        """Has obstore ask for overdue ranges, too; the direct requests go on."""
        self._watch = None
        overdue_s = max(POLICY.hedge_after_s, POLICY.hedge_factor * self.pace.slowest_s)
        before_s = time.monotonic() - overdue_s
        for flight in list(self._under_way):
            if flight.started_s < before_s:
                self._ask_again(flight, 0.0)
        self._start()
