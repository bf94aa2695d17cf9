"""Compare trainings with the plain loop that one would write instead: scores and minutes.

    python -m tools.benchmark train store=data/birds
    python -m tools.benchmark train --config configs/esc10.yaml store=data/esc10 \\
        benchmark.seeds=[0,1,2] --markdown docs/results.md
    python -m tools.benchmark train store=data/birds train_folds=[0] benchmark.ways=[plain]

Both learn from the same folds of the same store with the same number of threads, and predict all
held-out slices; a recording has the mean of its slices. The plain loop is 40 epochs of resnet10t by
torch and timm alone, with AdamW, a one-cycle schedule, mixup and masks; it holds all slices in
memory. A seed decides all that is drawn: the folds too, unless a column gives them. Experiments of
melbank go to benchmark.root.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from storage.errors import ConfigError
from storage.options import check_at_least, check_positive, option
from tools.cli.command import Arguments, Command
from tools.cli.tables import MARKDOWN, Section, Table
from tools.cli.training_inputs import TrainSections, open_training
from training.experiments.experiment import ExperimentConfig
from training.model.metrics import METRICS, TITLES, Scores, score_cells

if TYPE_CHECKING:  # seconds of imports, which `--help` can do without
    import numpy as np

    from datasets.slice_source import SliceSource
    from tools.benchmarks.harness.plain_loop import Slices
    from training.split import Split

MELBANK, PLAIN = "melbank", "plain"
WAYS = {MELBANK: "melbank", PLAIN: "plain loop"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainBenchmarkConfig:
    """Contenders, seeds, and numbers of the plain loop."""

    ways: list[str] = field(
        default_factory=lambda: [PLAIN, MELBANK], metadata={"help": "of plain and melbank"}
    )
    seeds: list[int] = field(
        default_factory=lambda: [0], metadata={"help": "a run of each; the table has medians too"}
    )
    root: str = option("data/benchmark_train", "folder of melbank's experiments")
    epochs: int = option(40, "of the plain loop")
    batch_size: int = option(32, "of the plain loop")
    learning_rate: float = option(2e-3, "highest of the plain loop")
    view: list[int] = field(
        default_factory=lambda: [2, 2],
        metadata={"help": "mel bands x frames that the plain loop averages; [1,1]: whole mels"},
    )

    def __post_init__(self) -> None:
        check_at_least(self, "benchmark", 1, "epochs", "batch_size")
        check_positive(self, "benchmark", "learning_rate")
        if not self.ways or not set(self.ways) <= set(WAYS):
            raise ConfigError(f"benchmark.ways={self.ways} must name some of {', '.join(WAYS)}")
        if not self.seeds:
            raise ConfigError("benchmark.seeds must name at least one")
        if len(self.view) != 2 or min(self.view) < 1:
            raise ConfigError(f"benchmark.view={self.view} must be two numbers from 1 on")


@dataclass(frozen=True, kw_only=True)
class Sections(TrainSections):
    """Config sections of this command."""

    benchmark: TrainBenchmarkConfig = field(default_factory=TrainBenchmarkConfig)


COMMAND = Command(
    doc=__doc__, sections=Sections, config="configs/birds_small.yaml", flags=(MARKDOWN,)
)


class Run(NamedTuple):
    """Scores of the held-out recordings of all folds, and how long training took."""

    scores: Scores
    minutes: float


def run_benchmark(config: Sections, _: Arguments) -> Section:
    """Trains all ways with all seeds."""
    chosen = config.benchmark
    source = open_training(config)
    found: dict[str, list[Run]] = {way: [] for way in chosen.ways}
    for seed in chosen.seeds:
        seeded = replace(config, seed=seed)
        for way, runs in found.items():
            runs.append((_melbank if way == MELBANK else _plain)(source, seeded))
            cells = " ".join(map(" ".join, zip(TITLES, score_cells(runs[-1].scores), strict=True)))
            print(f"{WAYS[way]}, seed {seed}: {cells}, {runs[-1].minutes:.1f} min", flush=True)
    folds = f"folds {config.train_folds}" if config.train_folds else "all folds"
    intro = (
        f"Held-out recordings of {folds}, each by the mean prediction of its slices; "
        f"{config.trainer.threads or 'all'} threads. The plain loop: {chosen.epochs} epochs of "
        f"resnet10t on means of {chosen.view[0]} x {chosen.view[1]} cells."
    )
    columns = ("way", "seed", *TITLES, "minutes")
    return Section(
        name="train",
        title="Training, against a plain loop",
        parts=(intro, Table(columns=columns, rows=tuple(_rows(found, chosen.seeds)))),
    )


def _rows(found: dict[str, list[Run]], seeds: Sequence[int]) -> list[tuple[str, ...]]:
    """A line per run, and one of medians where there are several."""
    rows = []
    for way, runs in found.items():
        named = [(str(seed), run) for seed, run in zip(seeds, runs, strict=True)]
        if len(runs) > 1:
            middle = {key: statistics.median(run.scores[key] for run in runs) for key in METRICS}
            minutes = statistics.median(run.minutes for run in runs)
            named.append(("median", Run(middle, minutes)))
        rows += [
            (WAYS[way], seed, *score_cells(run.scores), f"{run.minutes:.1f}") for seed, run in named
        ]
    return rows


def _melbank(source: "SliceSource", config: Sections) -> Run:
    """Trains as tools.train does."""
    from training.cross_validation import train_folds

    start_s = time.monotonic()
    experiment = ExperimentConfig(root=config.benchmark.root)
    report = train_folds(source, replace(config, experiment=experiment))
    return Run(report.pooled, (time.monotonic() - start_s) / 60)


def _plain(source: "SliceSource", config: Sections) -> Run:
    """Trains the plain loop on each fold; reading the slices is part of the time."""
    import numpy as np

    from tools.benchmarks.harness.plain_loop import PlainRecipe, train_and_predict
    from training.model.predict import Predictions, pool_recordings
    from training.runtime.auto import choose_threads
    from training.runtime.threads import torch_threads
    from training.split import split_recordings

    chosen, start_s = config.benchmark, time.monotonic()
    recipe = PlainRecipe(
        view=(chosen.view[0], chosen.view[1]),
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        learning_rate=chosen.learning_rate,
    )
    split = split_recordings(source, config)
    slices = _read(source, split)
    parts = []
    with torch_threads(int(choose_threads(config.trainer.threads).value)):
        for fold in split.train_folds:
            held_out_N = split.fold_R[slices.recording_no] == fold
            learn, held_out = (_some(slices, rows_N) for rows_N in (~held_out_N, held_out_N))
            parts.append(
                Predictions(
                    rows=np.flatnonzero(held_out_N),
                    recording_no=held_out.recording_no,
                    probabilities=train_and_predict(learn, held_out, recipe, seed=config.seed),
                    embeddings=np.empty((len(held_out.recording_no), 0), np.float32),
                )
            )
    pooled = pool_recordings(
        Predictions(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    )
    scores = split.truth.score(pooled.probabilities, pooled.recording_no)
    return Run(scores, (time.monotonic() - start_s) / 60)


def _read(source: "SliceSource", split: "Split") -> "Slices":
    """All slices of the recordings that take part, with targets whose rows sum to one."""
    import numpy as np
    import torch

    from datasets.loading.config import LoaderConfig
    from datasets.loading.reader import BatchReader
    from datasets.sampling.epoch_plan import plan_all
    from tools.benchmarks.harness.plain_loop import Slices

    plan = plan_all(split.recordings.filter(split.scored_R))
    loader = LoaderConfig(batch_size=256)
    reader = BatchReader(source, lambda _: plan, loader, targets=None, train=False)
    batches = list(reader)
    recording_no = np.concatenate([batch.recording_no.numpy() for batch in batches])
    return Slices(
        cells=torch.cat([batch.slices for batch in batches]),
        targets=torch.from_numpy(split.truth.targets_RC[recording_no]),
        recording_no=recording_no,
    )


def _some(slices: "Slices", rows_N: "np.ndarray") -> "Slices":
    return type(slices)(
        cells=slices.cells[rows_N],
        targets=slices.targets[rows_N],
        recording_no=slices.recording_no[rows_N],
    )
