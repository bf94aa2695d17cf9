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
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from storage.options import check_at_least, option
from tools.benchmarks.harness.process import Result
from tools.benchmarks.harness.runs import measure_in_turn, medians
from tools.cli.command import Arguments, Command
from tools.cli.tables import MARKDOWN, Section, Table
from tools.cli.training_inputs import TrainSections

if TYPE_CHECKING:  # seconds of imports, which `--help` can do without
    import torch

    from datasets.batch import Batch
    from datasets.loading.reader import BatchReader
    from tools.benchmarks.harness.train_step import Bench, Step

KEPT, READ = "batch kept on the device", "batches of the reader"
PICTURE = "benchmark_step.png"
COLOURS = ("#9aa5b1", "#2a7f62")
SAMPLE_EVERY_MS = 50
Spans = Sequence[tuple[float, float]]  # from and to, by time.perf_counter
Samples = list[tuple[float, float]]  # time.perf_counter, utilisation in percent


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
    from tools.benchmarks.harness.train_step import open_bench

    chosen = config.benchmark
    with open_bench(config) as bench, gpu_samples(bench.device) as samples:
        stretches = measure(bench, chosen)
    spans = {
        name: [(one["began"], one["ended"]) for one in many] for name, many in stretches.items()
    }
    if arguments.plot and samples:
        picture = Path(arguments.markdown or "").parent / PICTURE
        write_trace(picture, samples, spans)
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
        rows.append((name, *milliseconds, *more, mean_text(samples, spans[name])))
    columns = ("step on", "wall ms", "CPU ms", "slower", "more CPU", "GPU busy")
    samples_per_s = config.train_loader.batch_size / medians(read)["wall_s"]
    return Section(
        name="step",
        title="What reading adds to a training step",
        parts=(
            intro,
            Table(columns=columns, rows=tuple(rows)),
            f"With the reader {samples_per_s:,.0f} samples/s.",
        ),
    )


def measure(bench: "Bench", config: StepBenchmarkConfig) -> dict[str, list[Result]]:
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
    bench: "Bench", step: "Step", batches: "Iterator[Batch]", config: StepBenchmarkConfig
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


def _endless(reader: "BatchReader") -> "Generator[Batch, None, None]":
    """Yields the batches of the epoch again and again."""
    numbers = range(len(reader))
    while True:
        yield from reader.read_batches(numbers, ahead=True)


@contextmanager
def gpu_samples(device: "torch.device") -> Iterator[Samples]:
    """Yields a list that grows by samples of the first GPU until the block ends.

    Without a GPU or without nvidia-smi there are none.
    """
    samples: Samples = []
    if device.type != "cuda" or shutil.which("nvidia-smi") is None:
        yield samples
        return
    command = ["nvidia-smi", "-i", "0", "--query-gpu=utilization.gpu"]
    command += ["--format=csv,noheader,nounits", f"--loop-ms={SAMPLE_EVERY_MS}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:

        def listen() -> None:
            for line in process.stdout or ():
                if line.strip().isdigit():
                    samples.append((time.perf_counter(), float(line)))

        thread = threading.Thread(target=listen, name="gpu-trace", daemon=True)
        thread.start()
        try:
            yield samples
        finally:
            process.terminate()
            thread.join()


def mean_text(samples: Samples, spans: Spans) -> str:
    """Returns the mean utilisation within spans of time, as `97%`, or `-` without samples."""
    inside = [busy for at, busy in samples if any(start <= at < end for start, end in spans)]
    return f"{sum(inside) / len(inside):.0f}%" if inside else "-"


def write_trace(file: Path, samples: Samples, spans: Mapping[str, Spans]) -> None:
    """Draws the utilisation over time, s; what ran when is the background colour."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.6), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    start = min(began for many in spans.values() for began, _ in many)
    for colour, (name, many) in zip(COLOURS, spans.items(), strict=True):
        for number, (began, ended) in enumerate(many):
            label = name if number == 0 else None
            axes.axvspan(began - start, ended - start, color=colour, alpha=0.35, label=label, lw=0)
    axes.plot([at - start for at, _ in samples], [busy for _, busy in samples], lw=0.8)
    axes.set_xlim(0, max(ended for many in spans.values() for _, ended in many) - start)
    axes.set_ylim(0, 105)
    axes.set_xlabel("time (s)")
    axes.set_ylabel("GPU busy (%)")
    axes.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
