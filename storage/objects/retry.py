"""Retry policy: how often, and for how long, a failed read is tried again.

| what failed | what is done | bound |
|---|---|---|
| a range asked for directly | asked for again by obstore, after a pause | once |
| such ranges, again and again | asked for by obstore alone | `direct_after_s` |
| a request, at once | obstore repeats it | `quick_repeats`, within `remote.timeout_s` |
| a request, still | repeated with growing pauses | `remote.timeout_s` in all |
| a late answer | hedged requests; the first answer counts | `hedges` at a time |
| an object that differs from its checksum | read again | `reads` in all |
| a slice that differs from its checksum | requested again by itself | `reads` in all |
| a bad slice, still | read again from opened files | after each of `reread_after_s` |
| a shard not cached | tried again, ranged requests until then | every `recache_after_s` |

What a server would refuse again (access, a missing object, a wrong address) is not repeated.

Worst case. A server that does not answer: `remote.timeout_s`, 120 s, then the reading ends with
UnreachableError, which nothing above repeats. For whole objects and the indexes of zarr shards a
last attempt, begun before that, takes up to 4 x `remote.read_timeout_s`, 40 s, more. A damaged
slice: 1 + 3 readings of 3 requests each, so 12 round trips and 1.1 s of pauses where the server
answers at once, and 12 x `remote.timeout_s` where each answer takes as long as may be; it is then
quarantined. A damaged object: 3 readings.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from storage.errors import StoreError, UnreachableError

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Numbers of repetitions, and pauses in s."""

    quick_repeats: int = 3
    first_pause_s: float = 0.1  # doubled each time
    longest_pause_s: float = 5.0
    direct_failures: int = 20  # in a row, after which obstore is asked alone for a while:
    direct_after_s: float = 30.0
    hedges: int = 3
    hedge_after_s: float = 2.0  # at least; else so many times what the slowest answer took:
    hedge_factor: float = 4.0
    reads: int = 3
    reread_after_s: tuple[float, ...] = (0.0, 0.1, 1.0)
    recache_after_s: float = 5.0

    def pause_s(self, attempt: int) -> float:
        """Returns the pause after the attempt of this number, with jitter, s."""
        ceiling = min(self.longest_pause_s, self.first_pause_s * 2 ** min(attempt, 10))
        return random.uniform(ceiling / 2, ceiling)

    def read_valid(
        self, read: Callable[[], Result], is_valid: Callable[[Result], bool]
    ) -> tuple[Result, bool]:
        """Reads until the result is valid, `reads` times at most; returns the last, and if it is.

        `read` raises what no further reading would change.
        """
        for _ in range(self.reads):
            result = read()
            if is_valid(result):
                return result, True
        return result, False


POLICY = RetryPolicy()


class Attempts:
    """The attempts at one request, which all end within `timeout_s`."""

    def __init__(self, timeout_s: float) -> None:
        self._end_s = time.monotonic() + timeout_s
        self._num_failed = 0

    @property
    def left_s(self) -> float:
        """Time left, s."""
        return self._end_s - time.monotonic()

    def pause_s(self, problem: StoreError) -> float:
        """Returns the pause before the next attempt, s; raises `problem` where there is none."""
        pause_s = POLICY.pause_s(self._num_failed)
        self._num_failed += 1
        if not isinstance(problem, UnreachableError) or pause_s > self.left_s:
            raise problem from None  # the cause would show what is signed
        return pause_s
