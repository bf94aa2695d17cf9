"""The runs of an ablation: variants of the settings times seeds, each an experiment of its own."""

import json
import os
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from storage.errors import ConfigError, StoreError
from storage.options import check_at_least, option
from storage.processes import num_cores
from storage.progress import Progress
from tools.cli.stopping import Children
from tools.cli.tables import Section, Table
from training.model.metrics import METRICS, TITLES


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationConfig:
    """Variants, seeds and output folder."""

    variants: dict[str, list[str]] = field(
        default_factory=dict,
        metadata={"help": "variants by name, each a list of key=value words for tools.train"},
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "one run each"})
    root: str = option("data/ablation", "folder of the experiments")
    jobs: int = option(1, "runs at once, which share the cores")
    label: str = option("ablation", "names the table in the Markdown file")

    def __post_init__(self) -> None:
        check_at_least(self, "ablation", 1, "jobs")
        bad = [name for name in self.variants if not name.strip() or "/" in name or name[0] == "."]
        if bad:
            raise ConfigError(f"ablation.variants: {bad[0]!r} must be a name for a folder")


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRun:
    """One variant with one seed, and the words that train it."""

    variant: str
    seed: int
    root: Path
    words: tuple[str, ...]

    def scores_file(self) -> Path | None:
        """Path of its scores, once it is done with exactly these overrides."""
        done = self.root / "words.json"
        if not done.is_file() or json.loads(done.read_text("utf-8")) != list(self.words):
            return None
        return max((self.root / "preds").glob("exp_*/scores.json"), default=None)


def plan_runs(config: AblationConfig, words: Sequence[str]) -> list[AblationRun]:
    """All runs, seed by seed, so that a stopped ablation has some of each.

    Raises ConfigError where there is none.
    """
    if not config.variants or not config.seeds:
        raise ConfigError("ablation.variants and ablation.seeds must name at least one run")
    return [
        _plan_run(config, variant, seed, words)
        for seed in config.seeds
        for variant in config.variants
    ]


def _plan_run(config: AblationConfig, variant: str, seed: int, words: Sequence[str]) -> AblationRun:
    root = Path(config.root) / variant / f"seed_{seed}"
    own = (f"seed={seed}", f"experiment.root={root}", "trainer.logger=csv")
    changed = (*words, *config.variants[variant], *own)
    return AblationRun(variant=variant, seed=seed, root=root, words=changed)


def train_runs(runs: Sequence[AblationRun], jobs: int, progress: Progress) -> None:
    """Trains what is not there yet; raises StoreError, naming the log, where a run fails."""
    missing = [run for run in runs if run.scores_file() is None]
    threads = max(1, num_cores() // jobs)
    with (
        progress("training", len(missing), "run") as step,
        ThreadPoolExecutor(jobs) as pool,
        Children() as children,
    ):
        train = partial(_train, threads=threads, children=children)
        for _ in pool.map(train, missing):  # cancels the others where one fails
            step(1)


def _train(run: AblationRun, threads: int, children: Children) -> None:
    run.root.mkdir(parents=True, exist_ok=True)
    (run.root / "words.json").unlink(missing_ok=True)
    log = run.root / "log.txt"
    with log.open("w", encoding="utf-8") as out:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        code = children.run(["tools.train", *run.words], environment, out)
    if code:
        raise StoreError(f"{run.variant}, seed {run.seed}, ended with exit code {code}: see {log}")
    (run.root / "words.json").write_text(json.dumps(run.words), encoding="utf-8")


def section_of(config: AblationConfig, runs: Sequence[AblationRun]) -> Section:
    """The table: mean and spread (standard deviation over seeds) of each score."""
    rows = []
    for variant, changes in config.variants.items():
        scores = [_read_scores(run) for run in runs if run.variant == variant]
        cells = [_mean_and_spread([one["overall"].get(key) for one in scores]) for key in METRICS]
        seconds = [sum(fold["duration_s"] for fold in one["folds"]) for one in scores]
        rows.append((variant, " ".join(changes), *cells, f"{statistics.mean(seconds):.0f}"))
    columns = ("variant", "what it changes", *TITLES, "seconds a run")
    text = (
        f"Means and standard deviations over {len(config.seeds)} seeds, which decide "
        "whatever is drawn: initial weights, order, augmentation, and folds that are not given."
    )
    return Section(
        name=config.label,
        title=config.label.capitalize(),
        parts=(text, Table(columns=columns, rows=tuple(rows))),
    )


def _read_scores(run: AblationRun) -> dict[str, Any]:
    file = run.scores_file()
    if file is None:
        raise StoreError(
            f"{run.variant}, seed {run.seed}, has no scores in {run.root}: run it again"
        )
    scores: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return scores


def _mean_and_spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = statistics.stdev(known) if len(known) > 1 else 0.0
    return f"{statistics.mean(known):.3f} ± {spread:.3f}"
