"""Measure epoch plans: time and memory for millions of slices.

    python -m tools.benchmark plan
    python -m tools.benchmark plan benchmark.block_slices=10000000 --markdown docs/benchmarks.md
    python -m tools.benchmark plan 'benchmark.store_rows=[1000000,10000000]'

One random slice of each of a million recordings with sqrt balance, shuffled over all; and every one
of a hundred million slices, shuffled in blocks. Each run in a fresh process, over a
synthetic table; no slices are read. About three minutes; needs 8 GB. With `store_rows` also
opening synthetic stores of so many slices; for 100,000,000 ten minutes more, and 30 GB of disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from storage.format.catalog import NAME as CATALOG
from storage.options import check_at_least, option
from tools.benchmarks.harness.open_run import WHERE
from tools.benchmarks.harness.process import Result, check_measurable, run_measured
from tools.benchmarks.harness.runs import (
    MB,
    Columns,
    Medians,
    measure_in_turn,
    medians,
    table_of,
    work_folder,
)
from tools.benchmarks.harness.synthetic_index import write_index
from tools.cli.command import Arguments, Command
from tools.cli.tables import MARKDOWN, Section, Table

TITLES = {
    "one": "one random slice per recording, sqrt balance, global shuffle",
    "blocks": "every slice, shuffled in blocks",
}

POOL_SHARE = 10  # of the mixture's slices, one in so many more are of the pool
FIRST = "first process, which makes the files, with the condition"
STORE_TITLES = {
    "one": "one random slice per recording, sqrt balance",
    "where": f"the same, `{WHERE}`",
    "mix": "the same, a tenth of the samples from a second store",
    "blocks": "every slice, shuffled in blocks",
}
STORES = (
    "Synthetic stores in a folder, 22 columns of recordings. A process opens one, makes planner "
    "and plan, and looks up a first batch. From 2,000,000 slices on the tables are in mapped "
    "files, which the first process makes. Wall time of the three steps, CPU time of all. Private "
    "memory: the most that the process had of its own above its imports; shared: pages of mapped "
    "files, which processes of a machine have together."
)
COLUMNS: Columns = {
    "recordings": lambda one: f"{one['num_recordings']:,.0f}",
    "slices": lambda one: f"{one['num_slices']:,.0f}",
    "samples": lambda one: f"{one['num_samples']:,.0f}",
    "planner CPU s": lambda one: f"{one['planner_cpu_s']:.2f}",
    "plan CPU s": lambda one: f"{one['plan_cpu_s']:.2f}",
    "plan wall s": lambda one: f"{one['plan_s']:.2f}",
    "peak MB": lambda one: f"{one['peak_bytes'] / MB:,.0f}",
    "above the table MB": lambda one: f"{one['above_imports_bytes'] / MB:,.0f}",
}
STORE_COLUMNS: Columns = {
    "recordings": lambda one: f"{one['num_recordings']:,.0f}",
    "samples": lambda one: f"{one['num_samples']:,.0f}",
    "opening s": lambda one: f"{one['opening_s']:.2f}",
    "planning s": lambda one: f"{one['planning_s']:.2f}",
    "batch s": lambda one: f"{one['batch_s']:.2f}",
    "CPU s": lambda one: f"{one['work_cpu_s']:.2f}",
    "private MB": lambda one: f"{one['private_bytes'] / MB:,.0f}",
    "shared MB": lambda one: f"{one['shared_bytes'] / MB:,.0f}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanBenchmarkConfig:
    """Numbers of slices, and repetitions."""

    one_slices: int = option(13_000_000, "slices where one of each recording is drawn")
    block_slices: int = option(100_000_000, "slices where all are taken, in blocks")
    runs: int = option(3, "runs of each, in turn; the table has medians, of memory the most")
    store_rows: list[int] = field(
        default_factory=list,
        metadata={"help": "slices of synthetic stores to open, plan and read from; []: none"},
    )
    work_dir: str = option("", "folder in which they are kept for the next time; empty: they go")
    seed: int = option(0, "decides the synthetic tables and the plans")

    def __post_init__(self) -> None:
        check_at_least(self, "benchmark", 1, "runs")
        check_at_least(self, "benchmark", 100, "one_slices", "block_slices", "store_rows")


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Config sections of this command."""

    benchmark: PlanBenchmarkConfig = field(default_factory=PlanBenchmarkConfig)


COMMAND = Command(doc=__doc__, sections=Sections, flags=(MARKDOWN,))


def run_benchmark(config: Sections, _: Arguments) -> Section:
    """Measures both kinds of plans, and opens stores."""
    check_measurable()
    chosen = config.benchmark
    sizes = {"one": chosen.one_slices, "blocks": chosen.block_slices}

    def run(case: str) -> Result:
        words = [case, str(sizes[case]), str(chosen.seed)]
        return run_measured("tools.benchmarks.harness.plan_run", words)

    found = measure_in_turn(sizes, chosen.runs, run)
    intro = (
        "Synthetic recordings, 13 slices each on average. The planner is made once for a training "
        "(mostly the keys of the recordings, which are kept in a file from the second run on), a "
        "plan once for each epoch, in a thread for each core where it takes every slice. Memory: "
        "the largest resident size of the whole process, and that much above the imports and the "
        "table."
    )
    most = ("peak_bytes", "above_imports_bytes")
    plans = {TITLES[case]: medians(results, most) for case, results in found.items()}
    parts: list[str | Table] = [intro, table_of("plan", COLUMNS, plans)]
    if chosen.store_rows:
        parts += [STORES, table_of("store", STORE_COLUMNS, _measure_stores(chosen))]
    return Section(name="plan", title="Epoch plans", parts=tuple(parts))


def _measure_stores(chosen: PlanBenchmarkConfig) -> dict[str, Medians]:
    """Returns what opening stores of all sizes takes, by size and case."""
    found: dict[str, Medians] = {}
    for num_rows in chosen.store_rows:
        with work_folder(chosen.work_dir) as folder:
            kept = Path(chosen.work_dir) if chosen.work_dir else folder
            store = _written(kept, num_rows, chosen.seed)
            pool = _written(kept, max(1, num_rows // POOL_SHARE), chosen.seed + 1)
            words = [store, pool, str(folder / "cache"), str(chosen.seed)]

            def run(case: str, words: Sequence[str] = words) -> Result:
                return run_measured(
                    "tools.benchmarks.harness.open_run",
                    [case, *words],
                    environment={"MELBANK_CACHE": words[2]},
                )

            found[f"{num_rows:,}: {FIRST}"] = medians([run("where")])
            run("mix")  # the pool's tables
            for case, results in measure_in_turn(STORE_TITLES, chosen.runs, run).items():
                most = ("private_bytes", "shared_bytes")
                found[f"{num_rows:,}: {STORE_TITLES[case]}"] = medians(results, most)
    return found


def _written(folder: Path, num_rows: int, seed: int) -> str:
    """Writes a synthetic store into its folder, if it is not there."""
    target = folder / f"slices-{num_rows}-{seed}"
    if not (target / CATALOG).exists():  # which is written last
        write_index(str(target), num_rows, seed)
    return str(target)
