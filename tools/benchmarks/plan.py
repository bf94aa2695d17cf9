"""Measure epoch plans: time and memory for millions of slices.

    python -m tools.benchmark plan
    python -m tools.benchmark plan benchmark.block_slices=10000000 --markdown docs/benchmarks.md

One random slice of each of a million recordings with sqrt balance, shuffled over all; and every one
of a hundred million slices, shuffled in blocks. Each run in a fresh process, in one thread, over a
synthetic table; no slices are read. About three minutes; needs 8 GB.
"""

from dataclasses import dataclass, field

from storage.options import check_at_least, option
from tools.benchmarks.harness.process import Result, check_measurable, run_measured
from tools.benchmarks.harness.runs import MB, Columns, measure_in_turn, medians, table_of
from tools.cli.command import Arguments, Command
from tools.cli.tables import MARKDOWN, Section

TITLES = {
    "one": "one random slice per recording, sqrt balance, global shuffle",
    "blocks": "every slice, shuffled in blocks",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanBenchmarkConfig:
    """Numbers of slices, and repetitions."""

    one_slices: int = option(13_000_000, "slices where one of each recording is drawn")
    block_slices: int = option(100_000_000, "slices where all are taken, in blocks")
    runs: int = option(3, "runs of each, in turn; the table has medians, of memory the most")
    seed: int = option(0, "decides the synthetic tables and the plans")

    def __post_init__(self) -> None:
        check_at_least(self, "benchmark", 1, "runs")
        check_at_least(self, "benchmark", 100, "one_slices", "block_slices")


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Config sections of this command."""

    benchmark: PlanBenchmarkConfig = field(default_factory=PlanBenchmarkConfig)


COMMAND = Command(doc=__doc__, sections=Sections, flags=(MARKDOWN,))


def run_benchmark(config: Sections, _: Arguments) -> Section:
    """Measures both kinds of plans."""
    check_measurable()
    chosen = config.benchmark
    sizes = {"one": chosen.one_slices, "blocks": chosen.block_slices}

    def run(case: str) -> Result:
        words = [case, str(sizes[case]), str(chosen.seed)]
        return run_measured("tools.benchmarks.harness.plan_run", words)

    found = measure_in_turn(sizes, chosen.runs, run)
    intro = (
        "Synthetic recordings, 13 slices each on average. The planner is made once for a training "
        "(mostly the keys of the recordings), a plan once for each epoch. CPU and wall time, one "
        "thread. Memory: the largest resident size of the whole process, and that much above the "
        "imports and the table."
    )
    columns: Columns = {
        "recordings": lambda one: f"{one['num_recordings']:,.0f}",
        "slices": lambda one: f"{one['num_slices']:,.0f}",
        "samples": lambda one: f"{one['num_samples']:,.0f}",
        "planner CPU s": lambda one: f"{one['planner_cpu_s']:.2f}",
        "plan CPU s": lambda one: f"{one['plan_cpu_s']:.2f}",
        "plan wall s": lambda one: f"{one['plan_s']:.2f}",
        "peak MB": lambda one: f"{one['peak_bytes'] / MB:,.0f}",
        "above the table MB": lambda one: f"{one['above_imports_bytes'] / MB:,.0f}",
    }
    most = ("peak_bytes", "above_imports_bytes")
    plans = {TITLES[case]: medians(results, most) for case, results in found.items()}
    return Section(
        name="plan", title="Epoch plans", parts=(intro, table_of("plan", columns, plans))
    )
