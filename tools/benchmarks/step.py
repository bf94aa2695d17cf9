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
from tools.benchmarks.harness.train_step import Bench, Step, open_bench
from tools.cli.command import Arguments, Command
from tools.cli.progress_bars import bar
from tools.cli.tables import MARKDOWN, Section, Table, publish
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Steps of one kind in a row: when, and what one of them took, s."""

    began: float  # time.perf_counter
    ended: float
    wall_s: float
    cpu_s: float


def main(config: Sections, arguments: Arguments) -> None:
    """Measures, prints the table, writes it where asked for."""
    picture = Path(arguments.markdown or "").parent / PICTURE
    with open_bench(config) as bench, GpuTrace(bench.device) as trace:
        stretches = measure(bench, config.benchmark)
        section = report(bench, config.benchmark, stretches, trace)
    if arguments.plot and trace.samples:
        spans = {name: [(one.began, one.ended) for one in many] for name, many in stretches.items()}
        write_trace(picture, trace, spans)
        print(picture)
    publish(section, "step", arguments)


def measure(bench: Bench, config: StepBenchmarkConfig) -> dict[str, list[Stretch]]:
    """Stretches of both kinds, in turn."""
    step = bench.stepper(bench.config.augment)
    reader = bench.data.train_reader(accumulation=1)
    (first,) = reader.read_batches(range(1), ahead=False)
    kept = bench.move(first)
    found: dict[str, list[Stretch]] = {KEPT: [], READ: []}
    with bar("measuring", 2 * config.stretches, "stretch") as shown:
        _stretch(bench, step, itertools.repeat(kept), config)  # a GPU compiles, a CPU wakes up
        for _ in range(config.stretches):
            found[KEPT].append(_stretch(bench, step, itertools.repeat(kept), config))
            shown(1)
            with closing(_endless(reader)) as batches:
                found[READ].append(_stretch(bench, step, batches, config))
            shown(1)
    return found


def report(
    bench: Bench,
    config: StepBenchmarkConfig,
    stretches: dict[str, list[Stretch]],
    trace: GpuTrace,
) -> Section:
    """The result as a section of the report."""
    kept, read = stretches[KEPT], stretches[READ]
    intro = (
        f"{bench.about()}. {config.stretches} stretches of {config.steps} steps of each kind, in "
        f"turn, each after {config.warm_up} that are not counted; medians of the stretches. CPU "
        "time is that of all threads, the reader's too. `slower`: the median of the quotients of "
        "neighbours."
    )
    rows = []
    for name, many in stretches.items():
        walls = [one.wall_s / other.wall_s - 1 for one, other in zip(many, kept, strict=True)]
        cpus = [one.cpu_s / other.cpu_s - 1 for one, other in zip(many, kept, strict=True)]
        spans = [(one.began, one.ended) for one in many]
        rows.append(
            (
                name,
                f"{statistics.median(one.wall_s for one in many) * 1e3:.2f}",
                f"{statistics.median(one.cpu_s for one in many) * 1e3:.2f}",
                "" if many is kept else f"{statistics.median(walls):+.1%}",
                "" if many is kept else f"{statistics.median(cpus):+.1%}",
                trace.mean_text(spans),
            )
        )
    samples = bench.config.train_loader.batch_size / statistics.median(one.wall_s for one in read)
    columns = ("step on", "wall ms", "CPU ms", "slower", "more CPU", "GPU busy")
    return Section(
        name="step",
        title="What reading adds to a training step",
        parts=(
            intro,
            Table(columns=columns, rows=tuple(rows)),
            f"With the reader {samples:,.0f} samples/s.",
        ),
    )


def _stretch(
    bench: Bench, step: Step, batches: Iterator[Batch], config: StepBenchmarkConfig
) -> Stretch:
    for batch in itertools.islice(batches, config.warm_up):
        step(batch)
    bench.wait()
    began, began_cpu = time.perf_counter(), time.process_time()
    for batch in itertools.islice(batches, config.steps):
        step(batch)
    bench.wait()
    ended, ended_cpu = time.perf_counter(), time.process_time()
    return Stretch(
        began=began,
        ended=ended,
        wall_s=(ended - began) / config.steps,
        cpu_s=(ended_cpu - began_cpu) / config.steps,
    )


def _endless(reader: BatchReader) -> Generator[Batch, None, None]:
    """The batches of the epoch again and again."""
    numbers = range(len(reader))
    while True:
        yield from reader.read_batches(numbers, ahead=True)
