"""Runs of contenders in turn: a folder for what they make, their medians, and a table of those."""

import statistics
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from storage.errors import ConfigError
from tools.benchmarks.harness.process import Result
from tools.cli.progress_bars import bar
from tools.cli.tables import Table

MB = 1e6
Turn = TypeVar("Turn")
Medians = dict[str, float]
Columns = Mapping[str, Callable[[Medians], str]]  # the cell of a contender, by the column's title


@contextmanager
def work_folder(work_dir: str) -> Iterator[Path]:
    """Yields a new folder, in a given one or where temporary ones are, and removes it.

    Raises ConfigError where there is no such folder.
    """
    if work_dir and not Path(work_dir).is_dir():
        raise ConfigError(f"benchmark.work_dir={work_dir}: there is no such folder")
    with tempfile.TemporaryDirectory(dir=work_dir or None, prefix="melbank-") as folder:
        yield Path(folder)


def measure_in_turn(
    turns: Collection[Turn], runs: int, run: Callable[[Turn], Result]
) -> dict[Turn, list[Result]]:
    """Runs all turns, and all of them again: a slower moment of the machine slows all of them."""
    found: dict[Turn, list[Result]] = {turn: [] for turn in turns}
    with bar("measuring", runs * len(turns), "run") as step:
        for turn in runs * list(turns):
            found[turn].append(run(turn))
            step(1)
    return found


def medians(runs: Sequence[Result], most: Collection[str] = ()) -> Medians:
    """Returns the median of each number that all runs have, but the largest of those in `most`."""
    return {
        name: (max if name in most else statistics.median)(run[name] for run in runs)
        for name in set.intersection(*map(set, runs))
        if isinstance(runs[0][name], int | float)
    }


def table_of(first: str, columns: Columns, contenders: Mapping[str, Medians | None]) -> Table:
    """Returns a table with a row per contender, dashes where there are no medians."""
    rows = tuple(
        (title, *("-" if found is None else cell(found) for cell in columns.values()))
        for title, found in contenders.items()
    )
    return Table(columns=(first, *columns), rows=rows)
