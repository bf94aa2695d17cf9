"""Prefetch window of a reader, by what was measured."""

from dataclasses import dataclass

LOWEST_BYTES = 16 * 2**20  # of the prefetch window, until something was measured; 400 slices
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
