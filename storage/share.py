"""Share of one of several processes in a work that is planned: `3/16` is the third of sixteen.

Nobody hands the work out: each process takes its share of a list that all of them find alike.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from storage.errors import ConfigError

MAX_SHARES = 100_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Share:
    """The `number`-th of `count` shares, from 1 on."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, things: Sequence[T]) -> Sequence[T]:
        """Every `count`-th of some things, which are in the same order for all shares."""
        return things[self.number - 1 :: self.count]

    def first(self, things: Sequence[T]) -> list[T]:
        """All things, those of this share first, then those of the next shares in turn."""
        turns = ((place - self.number + 1) % self.count for place in range(len(things)))
        return [things[place] for _, place in sorted(zip(turns, range(len(things)), strict=True))]


def parse_share(key: str, text: str | None) -> Share | None:
    """Reads a share such as 3/16; ConfigError, on the key, where it is none."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", str(text).strip())
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count <= MAX_SHARES:
        raise ConfigError(
            f"{key}={text} is no share of the work: give i/n with i from 1 to n, such as 3/16 for "
            f"the third of sixteen, n at most {MAX_SHARES:,}"
        )
    return Share(number, count)
