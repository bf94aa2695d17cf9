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
from dataclasses import dataclass, field

import polars as pl

from storage.errors import ConfigError
from storage.options import check_at_least, option
from storage.store import open_store
from tools.benchmarks.harness.synthetic_index import write_index
from tools.cli.command import Arguments, Command
from tools.cli.tables import MARKDOWN, Section, Table

OPENING = "opening the store, once"
QUERIES: dict[str, str | pl.Expr] = {
    "by level: 1 % loud and active": (pl.col("max_db") > 12) & (pl.col("active_share") > 0.9),
    "by label: 1 species of 206": pl.col("primary_label") == "spec007",
    "by both": (pl.col("primary_label") == "spec007") & (pl.col("max_db") > 0),
    "SQL: count and mean by label": (
        "SELECT primary_label, COUNT(*) AS n, AVG(mean_db) AS level FROM slices "
        "GROUP BY primary_label ORDER BY n DESC"
    ),
}


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
    columns = {
        f"{num_rows:,} rows, ms": _measure_size(num_rows, chosen) for num_rows in chosen.num_rows
    }
    intro = (
        "Synthetic index in the store's own schema, without slices. Medians, all columns of the "
        f"slices found are collected; opened once, {pl.thread_pool_size()} threads."
    )
    names = (OPENING, *QUERIES)
    rows = tuple((name, *(f"{taken[name]:,.1f}" for taken in columns.values())) for name in names)
    return Section(
        name="query",
        title="Queries over the index",
        parts=(intro, Table(columns=("query", *columns), rows=rows)),
    )


def _measure_size(num_rows: int, config: QueryBenchmarkConfig) -> dict[str, float]:
    """Returns the ms of each query on an index of that many rows, and of opening it."""
    with tempfile.TemporaryDirectory(prefix="melbank-") as folder:
        write_index(folder, num_rows, config.seed)
        began = time.perf_counter()
        with open_store(folder) as store:
            store.slice_table()
            taken_ms = {OPENING: (time.perf_counter() - began) * 1e3}
            for name, query in QUERIES.items():
                times = []
                for _ in range(config.runs):
                    began = time.perf_counter()
                    store.query(query).collect()
                    times.append((time.perf_counter() - began) * 1e3)
                taken_ms[name] = statistics.median(times)
    return taken_ms
