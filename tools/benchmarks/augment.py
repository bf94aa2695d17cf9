"""Measure what each augmentation adds to a training step.

    python -m tools.benchmark augment store=data/demo/store
    python -m tools.benchmark augment --config configs/birdclef2025.yaml store=data/store
    python -m tools.benchmark augment store=data/demo/store --markdown docs/benchmarks.md

Model, batch size and device are those of the config, by default of configs/demo.yaml; the slices a
batch of the store. Steps without augmentation, with each one, with all of the config and with all
of configs/base.yaml, in turn in one process; each is set off against the step without that came
just before it. About two minutes.
"""

import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch

from datasets.augment.pipeline import AUGMENTATIONS, AugmentConfig
from datasets.batch import Batch
from storage.options import check_at_least, check_between, check_positive, option
from tools.benchmarks.harness.train_step import Bench, Step, open_bench
from tools.cli.command import Arguments, Command
from tools.cli.config import DEFAULT_CONFIG, load_config
from tools.cli.progress_bars import bar
from tools.cli.tables import MARKDOWN, Section, Table, publish
from tools.cli.training_inputs import TrainSections

NONE = "none"
WARM_UP = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentBenchmarkConfig:
    """Size of the measurement."""

    rounds: int = option(60, "steps of each kind, in turn; the table has medians")
    p: float = option(0.5, "probability of each augmentation where it is measured alone")

    def __post_init__(self) -> None:
        check_at_least(self, "benchmark", 1, "rounds")
        check_positive(self, "benchmark", "p")
        check_between(self, "benchmark", 0, 1, "p")


@dataclass(frozen=True, kw_only=True)
class Sections(TrainSections):
    """Config sections of this command."""

    benchmark: AugmentBenchmarkConfig = field(default_factory=AugmentBenchmarkConfig)


COMMAND = Command(doc=__doc__, sections=Sections, config="configs/demo.yaml", flags=(MARKDOWN,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Times of the steps of one kind, s, and of those without augmentation just before them."""

    wall_s: list[float]
    cpu_s: list[float]
    cpu_before_s: list[float]
    wall_before_s: list[float]


def main(config: Sections, arguments: Arguments) -> None:
    """Measures, prints the table, writes it where asked for."""
    with open_bench(config) as bench:
        section = run_benchmark(bench, config)
    publish(section, "augment", arguments)


def run_benchmark(bench: Bench, config: Sections) -> Section:
    """All kinds of steps, as a section of the report."""
    kinds = dict(_kinds(config))
    steps = {name: bench.stepper(augment) for name, augment in kinds.items()}
    taken = _measure(bench, steps, config.benchmark.rounds)
    intro = (
        f"{bench.about()}. Medians of {config.benchmark.rounds} steps of each kind in turn, on one "
        "batch; each is set off against the step without augmentation just before it. CPU time is "
        f"that of all threads. Alone, an augmentation has p={config.benchmark.p}."
    )
    rows = tuple(_row(name, one) for name, one in taken.items())
    columns = ("augmentation", "step, CPU ms", "step, wall ms", "added CPU", "added wall")
    return Section(
        name="augment",
        title="What augmentation adds to a training step",
        parts=(intro, Table(columns=columns, rows=rows)),
    )


def _kinds(config: Sections) -> Iterator[tuple[str, AugmentConfig]]:
    """Every kind of step: a name and its augmentations; none comes first."""
    off = AugmentConfig()
    yield NONE, off
    for name in AUGMENTATIONS:
        alone = replace(getattr(config.augment, name), p=config.benchmark.p)
        yield name, replace(off, **{name: alone})
    base = load_config(TrainSections, DEFAULT_CONFIG).augment
    for name, whole in (("all of the config", config.augment), (f"all of {DEFAULT_CONFIG}", base)):
        yield name, whole


def _measure(bench: Bench, steps: Mapping[str, Step], rounds: int) -> dict[str, Taken]:
    batch = _one_batch(bench)
    taken = {name: Taken(wall_s=[], cpu_s=[], cpu_before_s=[], wall_before_s=[]) for name in steps}
    with bar("measuring", rounds + WARM_UP, "round") as shown:
        for number in range(rounds + WARM_UP):
            for name, step in steps.items():
                before = _seconds(bench, steps[NONE], batch)
                wall_s, cpu_s = _seconds(bench, step, batch)
                if number >= WARM_UP:
                    taken[name].wall_s.append(wall_s)
                    taken[name].cpu_s.append(cpu_s)
                    taken[name].wall_before_s.append(before[0])
                    taken[name].cpu_before_s.append(before[1])
            shown(1)
    return taken


def _seconds(bench: Bench, step: Step, batch: Batch) -> tuple[float, float]:
    """Wall and CPU time of one step, s."""
    began, began_cpu = time.perf_counter(), time.process_time()
    step(batch)
    bench.wait()
    return time.perf_counter() - began, time.process_time() - began_cpu


def _one_batch(bench: Bench) -> Batch:
    """The first batch of the epoch on the device; others of it are its backgrounds."""
    reader = bench.data.train_reader(accumulation=1)
    (batch,) = reader.read_batches(range(1), ahead=False)
    return bench.move(batch._replace(background=torch.roll(batch.slices, 1, 0)))


def _row(name: str, taken: Taken) -> tuple[str, ...]:
    cpu_s, wall_s = statistics.median(taken.cpu_s), statistics.median(taken.wall_s)
    cpu = _added(taken.cpu_s, taken.cpu_before_s)
    wall = _added(taken.wall_s, taken.wall_before_s)
    return name, f"{cpu_s * 1e3:.2f}", f"{wall_s * 1e3:.2f}", f"{cpu:+.1%}", f"{wall:+.1%}"


def _added(times: list[float], before: list[float]) -> float:
    """The median difference to the step before, as a share of the median of those."""
    pairs = zip(times, before, strict=True)
    return statistics.median(one - other for one, other in pairs) / statistics.median(before)
