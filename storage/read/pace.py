"""Prefetch window of a reader, by what was measured; the line, shared with downloads, by a rule."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

LOWEST_BYTES = 16 * 2**20  # of the prefetch window, until something was measured; 400 slices
BUSY_BYTES = 4 * 2**20  # of ranges on their way: what 125 MB/s carry in 30 ms
PIECES_AT_ONCE = 8
_WEIGHT = 0.2  # of the newest rate
_FADING = 0.995  # of the slowest answer, with each faster one


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


@dataclass(slots=True, kw_only=True)
class Line:
    """Line of a process, on which ranged requests go before the downloads of whole shards.

    Ranged requests never wait. While `BUSY_BYTES` of them are on their way, or more, one piece of
    a shard is requested at a time, so that downloads never stop; else up to `PIECES_AT_ONCE`.
    All in the background loop.
    """

    ranged_bytes: int = 0  # on their way
    num_pieces: int = 0
    _has_changed: asyncio.Event = field(default_factory=asyncio.Event)

    def note_ranged(self, num_bytes: int) -> None:
        """More ranged bytes are on their way; fewer where it is negative."""
        self.ranged_bytes += num_bytes
        if num_bytes < 0 and self._has_room():
            self._has_changed.set()

    @asynccontextmanager
    async def piece(self) -> AsyncIterator[None]:
        """Waits until a piece may be requested; the context lasts as long as the request."""
        while not self._has_room():
            self._has_changed.clear()
            await self._has_changed.wait()
        self.num_pieces += 1
        try:
            yield
        finally:
            self.num_pieces -= 1
            self._has_changed.set()

    def _has_room(self) -> bool:
        return self.num_pieces < (1 if self.ranged_bytes >= BUSY_BYTES else PIECES_AT_ONCE)
