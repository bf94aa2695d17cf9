"""Measure queries over the index of a store of millions of slices.

    python -m tools.benchmark query
    python -m tools.benchmark query benchmark.num_rows=[1000000,10000000] \\
        --markdown docs/benchmarks.md

Writes the tables of such a store and one zarr shard of slices (no audio), opens it, and times
filters by level and by label and a GROUP BY, all columns included, a line of the index by its row,
and a slice by its row. About a minute and 4 GB of memory for 10,000,000.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import polars as pl

from storage.errors import ConfigError
from storage.format.zarr_shards import SLICES_PER_ZARR_SHARD
from storage.options import check_at_least, option
from storage.store import Store, open_store
from tools.benchmarks.harness.synthetic_index import write_index
from tools.cli.command import Arguments, Command
from tools.cli.tables import MARKDOWN, Section, Table

OPENING = "opening the store, once"
SLICE = "a slice by its row"
SLICES_READ = 200  # one by one, at random rows
QUERIES: dict[str, str | pl.Expr] = {
    "by level: 1 % loud and active": (pl.col("max_db") > 12) & (pl.col("active_share") > 0.9),
    "by label: 1 species of 206": pl.col("primary_label") == "spec007",
    "by both": (pl.col("primary_label") == "spec007") & (pl.col("max_db") > 0),
    "a line of the index by its row": pl.col("row") == 700,
    "SQL: count and mean by label": (
        "SELECT primary_label, COUNT(*) AS n, AVG(mean_db) AS level FROM slices "
        "GROUP BY primary_label ORDER BY n DESC"
    ),
}


class Taken(NamedTuple):
    """Time by the clock, and of all threads of this process, ms."""

    wall_ms: float
    cpu_ms: float


class _Clock:
    """Time from its beginning on."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter(), time.process_time()

    def taken(self) -> Taken:
        wall_s, cpu_s = self._began_s
        return Taken((time.perf_counter() - wall_s) * 1e3, (time.process_time() - cpu_s) * 1e3)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryBenchmarkConfig:
    """Numbers of rows, and repetitions of each query."""

    num_rows: list[int] = field(
        default_factory=lambda: [1_000_000, 10_000_000], metadata={"help": "slices of each index"}
    )
    runs: int = option(7, "runs of each query; the table has medians")
    seed: int = option(0, "decides the synthetic values")

    def __post_init__(self) -> None:
        check_at_least(self, "benchmark", 1, "runs", "num_rows")
        if not self.num_rows:
            raise ConfigError("benchmark.num_rows=[] must name at least one size")


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Config sections of this command."""

    benchmark: QueryBenchmarkConfig = field(default_factory=QueryBenchmarkConfig)


COMMAND = Command(doc=__doc__, sections=Sections, flags=(MARKDOWN,))


def run_benchmark(config: Sections, _: Arguments) -> Section:
    """Measures all queries on indexes of all sizes."""
    chosen = config.benchmark
    taken = {num_rows: _measure_size(num_rows, chosen) for num_rows in chosen.num_rows}
    intro = (
        "Synthetic index in the store's schema, and 1,024 slices of noise. Medians; all columns of "
        "the slices found are collected, cells are decoded and their checksums verified, from "
        "pages in memory. CPU time is that of all threads of the process. Opened once, "
        f"{pl.thread_pool_size()} threads."
    )
    names = (OPENING, *QUERIES, SLICE)
    rows = tuple(
        (name, *(f"{ms:,.2f}" for of_size in taken.values() for ms in of_size[name]))
        for name in names
    )
    titles = [f"{num_rows:,} rows" for num_rows in taken]
    columns = [f"{title}, {unit}" for title in titles for unit in ("ms", "CPU ms")]
    return Section(
        name="query",
        title="Queries over the index",
        parts=(intro, Table(columns=("query", *columns), rows=rows)),
    )


def _measure_size(num_rows: int, config: QueryBenchmarkConfig) -> dict[str, Taken]:
    """Returns the time of each query on an index of that many rows, and of opening it."""
    with tempfile.TemporaryDirectory(prefix="melbank-") as folder:
        write_index(folder, num_rows, config.seed)
        opening = _Clock()
        with open_store(folder) as store:
            store.slice_table()
            taken = {OPENING: opening.taken()}
            for name, query in QUERIES.items():
                taken[name] = _median([partial(_ask, store, query)] * config.runs)
            there = store.query(pl.col("row") < SLICES_PER_ZARR_SHARD).select("row").collect()
            rows = np.random.default_rng(config.seed).choice(there["row"], SLICES_READ)
            store.read(rows[:1])  # opens the shard
            taken[SLICE] = _median([partial(store.read, [row]) for row in rows.tolist()])
    return taken


def _ask(store: Store, query: str | pl.Expr) -> pl.DataFrame:
    return store.query(query).collect()


def _median(calls: Sequence[Callable[[], object]]) -> Taken:
    """Median times of calls."""
    times = []
    for call in calls:
        clock = _Clock()
        call()
        times.append(clock.taken())
    return Taken(*map(statistics.median, zip(*times, strict=True)))
