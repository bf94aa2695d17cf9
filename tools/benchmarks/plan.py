"""Measure epoch plans: time and memory for millions of slices.

    python -m tools.benchmark plan
    python -m tools.benchmark plan benchmark.block_slices=10000000 --markdown docs/benchmarks.md

One random slice of each of a million recordings with sqrt balance, shuffled over all; and every one
of a hundred million slices, shuffled in blocks. Each run in a fresh process, in one thread, over a
synthetic table; no slices are read. About three minutes; needs 8 GB.
"""

import statistics
from dataclasses import dataclass, field

from storage.options import check_at_least, option
from tools.benchmarks.harness.process import Measured, check_measurable, run_measured
from tools.cli.command import Arguments, Command
from tools.cli.progress_bars import bar
from tools.cli.tables import MARKDOWN, Section, Table, publish

MB = 1e6
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


def main(config: Sections, arguments: Arguments) -> None:
    """Measures, prints the table, writes it where asked for."""
    check_measurable()
    section = run_benchmark(config.benchmark)
    publish(section, "plan", arguments)


def run_benchmark(config: PlanBenchmarkConfig) -> Section:
    """Both kinds of plans, as a section of the report."""
    sizes = {"one": config.one_slices, "blocks": config.block_slices}
    runs: dict[str, list[Measured]] = {case: [] for case in sizes}
    with bar("measuring", config.runs * len(sizes), "run") as step:
        for _ in range(config.runs):
            for case, size in sizes.items():
                words = [case, str(size), str(config.seed)]
                runs[case].append(run_measured("tools.benchmarks.harness.plan_run", words))
                step(1)
    intro = (
        "Synthetic recordings, 13 slices each on average. The planner is made once for a training "
        "(mostly the keys of the recordings), a plan once for each epoch. CPU and wall time, one "
        "thread. Memory: the largest resident size of the whole process, and that much above the "
        "imports and the table."
    )
    rows = tuple(_row(case, sizes[case], measured) for case, measured in runs.items())
    columns = (
        "plan",
        "recordings",
        "slices",
        "samples",
        "planner CPU s",
        "plan CPU s",
        "plan wall s",
        "peak MB",
        "above the table MB",
    )
    return Section(
        name="plan", title="Epoch plans", parts=(intro, Table(columns=columns, rows=rows))
    )


def _row(case: str, num_slices: int, measured: list[Measured]) -> tuple[str, ...]:
    def median(name: str) -> str:
        return f"{statistics.median(one.answer[name] for one in measured):.2f}"

    answer = measured[0].answer
    peak_bytes = max(one.peak_bytes for one in measured)
    above_bytes = max(one.peak_bytes - one.imports_bytes for one in measured)
    return (
        TITLES[case],
        f"{answer['num_recordings']:,}",
        f"{num_slices:,}",
        f"{answer['num_samples']:,}",
        median("planner_cpu_s"),
        median("plan_cpu_s"),
        median("plan_s"),
        f"{peak_bytes / MB:,.0f}",
        f"{above_bytes / MB:,.0f}",
    )
