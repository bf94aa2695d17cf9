"""Runs of contenders in turn, with their results and the reasons of those that fail."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from storage.errors import StoreError
from tools.benchmarks.reading.contenders import Way
from tools.cli.progress_bars import bar

Turn = tuple[Way, Any]  # a contender and the condition that it is measured under
Result = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Results:
    """Results of each contender under each condition, in order; failures with their reasons."""

    ways: tuple[Way, ...]
    failures: dict[Way, str] = field(default_factory=dict)
    found: dict[Turn, list[Result]] = field(default_factory=dict)

    @contextmanager
    def failing(self, *ways: Way) -> Iterator[None]:
        """Records a StoreError as the failure of these contenders."""
        try:
            yield
        except StoreError as error:
            self.failures.update(dict.fromkeys(ways, str(error)))

    def measure(self, turns: Sequence[Turn], run: Callable[[Turn], Result]) -> None:
        """Runs all turns in order, but those of a contender that has failed."""
        with bar("measuring", len(turns), "run") as step:
            for turn in turns:
                way, _ = turn
                if way not in self.failures:
                    with self.failing(way):
                        self.found.setdefault(turn, []).append(run(turn))
                step(1)

    def at(self, condition: Any) -> dict[Way, list[Result]]:
        """Returns the results under a condition of those contenders that have not failed."""
        return {
            way: self.found[way, condition]
            for way in self.ways
            if way not in self.failures and self.found.get((way, condition))
        }
