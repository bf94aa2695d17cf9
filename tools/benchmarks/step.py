"""Measure what reading adds to a training step.

    python -m tools.benchmark step store=data/demo/store
    python -m tools.benchmark step --config configs/birdclef2025.yaml shards=data/shards --plot
    python -m tools.benchmark step store=data/demo/store --markdown docs/benchmarks.md

The same training steps, with the config's augmentation, on batches of the real reader and on one
batch that is kept on the device: stretches of both kinds in turn in one process. Where there is a
GPU, a trace of its utilisation is taken meanwhile, and drawn with `--plot` into step.png. About two
minutes with configs/demo.yaml.
"""

import itertools
import statistics
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from datasets.batch import Batch
from datasets.loading.reader import BatchReader
from storage.options import check_at_least, option
from tools.benchmarks.harness.gpu_trace import GpuTrace, write_trace
from tools.benchmarks.harness.process import Result
from tools.benchmarks.harness.runs import measure_in_turn, medians
from tools.benchmarks.harness.train_step import Bench, Step, open_bench
from tools.cli.command import Arguments, Command
from tools.cli.tables import MARKDOWN, Section, Table
from tools.cli.training_inputs import TrainSections

KEPT, READ = "batch kept on the device", "batches of the reader"
PICTURE = "benchmark_step.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBenchmarkConfig:
    """Size of the measurement."""

    stretches: int = option(12, "stretches of each kind; the table has medians")
    steps: int = option(40, "steps in a stretch")
    warm_up: int = option(10, "steps before each stretch that are not counted")

    def __post_init__(self) -> None:
        check_at_least(self, "benchmark", 1, "stretches", "steps")
        check_at_least(self, "benchmark", 0, "warm_up")


@dataclass(frozen=True, kw_only=True)
class Sections(TrainSections):
    """Config sections of this command."""

    benchmark: StepBenchmarkConfig = field(default_factory=StepBenchmarkConfig)


COMMAND = Command(
    doc=__doc__,
    sections=Sections,
    config="configs/demo.yaml",
    flags=(
        ("--plot", {"action": "store_true", "help": f"draw the GPU's utilisation: {PICTURE}"}),
        MARKDOWN,
    ),
)


def run_benchmark(config: Sections, arguments: Arguments) -> Section:
    """Measures stretches of both kinds, and draws the GPU's utilisation where asked for."""
    chosen = config.benchmark
    with open_bench(config) as bench, GpuTrace(bench.device) as trace:
        stretches = measure(bench, chosen)
    spans = {
        name: [(one["began"], one["ended"]) for one in many] for name, many in stretches.items()
    }
    if arguments.plot and trace.samples:
        picture = Path(arguments.markdown or "").parent / PICTURE
        write_trace(picture, trace, spans)
        print(picture)
    kept, read = stretches[KEPT], stretches[READ]
    intro = (
        f"{bench.about()}. {chosen.stretches} stretches of {chosen.steps} steps of each kind, in "
        f"turn, each after {chosen.warm_up} that are not counted; medians of the stretches. CPU "
        "time is that of all threads, the reader's too. `slower`: the median of the quotients of "
        "neighbours."
    )
    rows = []
    for name, many in stretches.items():
        found = medians(many)
        more = [_more(many, kept, cost) if many is read else "" for cost in ("wall_s", "cpu_s")]
        milliseconds = [f"{found[cost] * 1e3:.2f}" for cost in ("wall_s", "cpu_s")]
        rows.append((name, *milliseconds, *more, trace.mean_text(spans[name])))
    columns = ("step on", "wall ms", "CPU ms", "slower", "more CPU", "GPU busy")
    samples = config.train_loader.batch_size / medians(read)["wall_s"]
    return Section(
        name="step",
        title="What reading adds to a training step",
        parts=(
            intro,
            Table(columns=columns, rows=tuple(rows)),
            f"With the reader {samples:,.0f} samples/s.",
        ),
    )


def measure(bench: Bench, config: StepBenchmarkConfig) -> dict[str, list[Result]]:
    """Measures stretches of both kinds, in turn."""
    step = bench.stepper(bench.config.augment)
    reader = bench.data.train_reader(accumulation=1)
    (first,) = reader.read_batches(range(1), ahead=False)
    kept = bench.move(first)

    def stretch(kind: str) -> Result:
        if kind == KEPT:
            return _stretch(bench, step, itertools.repeat(kept), config)
        with closing(_endless(reader)) as batches:
            return _stretch(bench, step, batches, config)

    stretch(KEPT)  # a GPU compiles, a CPU wakes up
    return measure_in_turn((KEPT, READ), config.stretches, stretch)


def _stretch(
    bench: Bench, step: Step, batches: Iterator[Batch], config: StepBenchmarkConfig
) -> Result:
    """Takes steps of one kind; returns when, by time.perf_counter, and what one of them took, s."""
    for batch in itertools.islice(batches, config.warm_up):
        step(batch)
    bench.wait()
    began, began_cpu = time.perf_counter(), time.process_time()
    for batch in itertools.islice(batches, config.steps):
        step(batch)
    bench.wait()
    ended, ended_cpu = time.perf_counter(), time.process_time()
    wall_s, cpu_s = (ended - began) / config.steps, (ended_cpu - began_cpu) / config.steps
    return {"began": began, "ended": ended, "wall_s": wall_s, "cpu_s": cpu_s}


def _more(read: list[Result], kept: list[Result], cost: str) -> str:
    """Returns the median of the quotients of neighbours, as what is above 1."""
    quotients = [one[cost] / other[cost] for one, other in zip(read, kept, strict=True)]
    return f"{statistics.median(quotients) - 1:+.1%}"


def _endless(reader: BatchReader) -> Generator[Batch, None, None]:
    """Yields the batches of the epoch again and again."""
    numbers = range(len(reader))
    while True:
        yield from reader.read_batches(numbers, ahead=True)
