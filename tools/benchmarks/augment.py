"""Measure what each augmentation adds to a training step.

    python -m tools.benchmark augment store=data/demo/store
    python -m tools.benchmark augment --config configs/birdclef2025.yaml store=data/store
    python -m tools.benchmark augment store=data/demo/store --markdown docs/benchmarks.md

Model, batch size and device are those of the config, by default of configs/demo.yaml; the slices a
batch of the store. Steps without augmentation, with each one, with all of the config and with all
of configs/base.yaml, in turn in one process; each is set off against the step without that came
just before it. About two minutes.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from datasets.augment.pipeline import AUGMENTATIONS, AugmentConfig
from storage.options import check_at_least, check_between, check_positive, option
from tools.benchmarks.harness.process import Result
from tools.benchmarks.harness.runs import Columns, measure_in_turn, medians, table_of
from tools.cli.command import Arguments, Command
from tools.cli.config import DEFAULT_CONFIG, load_config
from tools.cli.tables import MARKDOWN, Section
from tools.cli.training_inputs import TrainSections

if TYPE_CHECKING:  # seconds of imports, which `--help` can do without
    from datasets.batch import Batch
    from tools.benchmarks.harness.train_step import Bench, Step

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


def run_benchmark(config: Sections, _: Arguments) -> Section:
    """Measures all kinds of steps in turn, each next to one without augmentation."""
    from tools.benchmarks.harness.train_step import open_bench

    chosen = config.benchmark
    with open_bench(config) as bench:
        about, batch = bench.about(), _one_batch(bench)
        steps = {name: bench.stepper(augment) for name, augment in _kinds(config)}

        def run(name: str) -> Result:
            wall_before_s, cpu_before_s = _seconds(bench, steps[NONE], batch)
            wall_s, cpu_s = _seconds(bench, steps[name], batch)
            return {
                "wall_s": wall_s,
                "cpu_s": cpu_s,
                "wall_before_s": wall_before_s,
                "cpu_before_s": cpu_before_s,
                "wall_added_s": wall_s - wall_before_s,
                "cpu_added_s": cpu_s - cpu_before_s,
            }

        found = measure_in_turn(steps, chosen.rounds + WARM_UP, run)
    intro = (
        f"{about}. Medians of {chosen.rounds} steps of each kind in turn, on one "
        "batch; each is set off against the step without augmentation just before it. CPU time is "
        f"that of all threads. Alone, an augmentation has p={chosen.p}."
    )
    columns: Columns = {
        "step, CPU ms": lambda one: f"{one['cpu_s'] * 1e3:.2f}",
        "step, wall ms": lambda one: f"{one['wall_s'] * 1e3:.2f}",
        "added CPU": lambda one: f"{one['cpu_added_s'] / one['cpu_before_s']:+.1%}",
        "added wall": lambda one: f"{one['wall_added_s'] / one['wall_before_s']:+.1%}",
    }
    kinds = {name: medians(results[WARM_UP:]) for name, results in found.items()}
    return Section(
        name="augment",
        title="What augmentation adds to a training step",
        parts=(intro, table_of("augmentation", columns, kinds)),
    )


def _kinds(config: Sections) -> Iterator[tuple[str, AugmentConfig]]:
    """Yields every kind of step: a name and its augmentations; none comes first."""
    off = AugmentConfig()
    yield NONE, off
    for name in AUGMENTATIONS:
        alone = replace(getattr(config.augment, name), p=config.benchmark.p)
        yield name, replace(off, **{name: alone})
    yield "all of the config", config.augment
    yield f"all of {DEFAULT_CONFIG}", load_config(TrainSections, DEFAULT_CONFIG).augment


def _seconds(bench: "Bench", step: "Step", batch: "Batch") -> tuple[float, float]:
    """Wall and CPU time of one step, s."""
    began, began_cpu = time.perf_counter(), time.process_time()
    step(batch)
    bench.wait()
    return time.perf_counter() - began, time.process_time() - began_cpu


def _one_batch(bench: "Bench") -> "Batch":
    """The first batch of the epoch on the device; others of it are its backgrounds."""
    reader = bench.data.train_reader(accumulation=1)
    (batch,) = reader.read_batches(range(1), ahead=False)
    levels = None if batch.levels is None else batch.levels.roll(1, 0)
    other = batch.slices.roll(1, 0)
    return bench.move(batch._replace(background=other, background_levels=levels))
