"""Measure queries over the index of a store of millions of slices.

    python -m tools.benchmark query
    python -m tools.benchmark query benchmark.num_rows=[1000000,10000000] \\
        --markdown docs/benchmarks.md

Writes the tables of such a store (no audio, no slices), opens it, and times filters by level and
by label and a GROUP BY, all columns included. About a minute and 4 GB of memory for 10,000,000.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import polars as pl

from storage.errors import ConfigError
from storage.options import check_at_least, option
from storage.store import Store, open_store
from tools.benchmarks.harness.synthetic_index import write_index
from tools.cli.command import Arguments, Command
from tools.cli.tables import MARKDOWN, Section, Table, publish

SIZES = [1_000_000, 10_000_000]
SQL = (
    "SELECT primary_label, COUNT(*) AS n, AVG(mean_db) AS level FROM slices "
    "GROUP BY primary_label ORDER BY n DESC"
)
FILTERS = {
    "by level: 1 % loud and active": (pl.col("max_db") > 12) & (pl.col("active_share") > 0.9),
    "by label: 1 species of 206": pl.col("primary_label") == "spec007",
    "by both": (pl.col("primary_label") == "spec007") & (pl.col("max_db") > 0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryBenchmarkConfig:
    """Numbers of rows, and repetitions of each query."""

    num_rows: list[int] = field(
        default_factory=lambda: list(SIZES), metadata={"help": "slices of each index"}
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


def main(config: Sections, arguments: Arguments) -> None:
    """Measures each size, prints the table, writes it where asked for."""
    section = run_benchmark(config.benchmark)
    publish(section, "query", arguments)


def run_benchmark(config: QueryBenchmarkConfig) -> Section:
    """All queries on indexes of all sizes, as a section of the report."""
    columns = [_measure_size(num_rows, config) for num_rows in config.num_rows]
    intro = (
        "Synthetic index in the store's own schema, without slices. Medians, all columns of the "
        f"slices found are collected; opened once, {pl.thread_pool_size()} threads."
    )
    header = ("query", *(f"{num_rows:,} rows, ms" for num_rows in config.num_rows))
    rows = tuple((name, *(f"{column[name]:,.1f}" for column in columns)) for name in columns[0])
    return Section(
        name="query",
        title="Queries over the index",
        parts=(intro, Table(columns=header, rows=rows)),
    )


def _measure_size(num_rows: int, config: QueryBenchmarkConfig) -> dict[str, float]:
    """ms of each query on an index of that many rows, the reading of the index first."""
    with tempfile.TemporaryDirectory(prefix="melbank-") as folder:
        write_index(folder, num_rows, config.seed)
        began = time.perf_counter()
        with open_store(folder) as store:
            store.slice_table()
            taken_ms = {"opening the store, once": (time.perf_counter() - began) * 1e3}
            for name, query in _queries(store).items():
                taken_ms[name] = _median_ms(query, config.runs)
    return taken_ms


def _queries(store: Store) -> dict[str, Callable[[], pl.DataFrame]]:
    def collect(what: str | pl.Expr) -> Callable[[], pl.DataFrame]:
        return lambda: store.query(what).collect()

    queries = {name: collect(condition) for name, condition in FILTERS.items()}
    return {**queries, "SQL: count and mean by label": collect(SQL)}


def _median_ms(query: Callable[[], pl.DataFrame], runs: int) -> float:
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        query()
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)
