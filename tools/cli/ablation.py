"""The runs of an ablation: variants of the settings times seeds, each an experiment of its own.

With `ablation.test` each run also predicts recordings that no training has seen, such as
soundscapes, by tools.evaluate; words of a variant that begin with TEST_KEYS are for that.
"""

import json
import os
import shutil
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

TEST_KEYS = ("predict.", "post=", "blend.", "calibration=")
TEST_SCORES = ("roc_auc", "cmap")
PREDICTIONS, EVALUATION = "test", "evaluation"
TRAINED, TESTED = "words.json", "test.json"  # words of calls that are done


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
    test: str = option("", "recordings to predict with each run, or a store; scored as well")
    test_labels: str = option("", "labels of ablation.test, as in evaluate.annotations")
    label: str = option("ablation", "names the table in the Markdown file")

    def __post_init__(self) -> None:
        check_at_least(self, "ablation", 1, "jobs")
        if bool(self.test) != bool(self.test_labels):
            raise ConfigError("ablation.test and ablation.test_labels: give both, or none")
        bad = [name for name in self.variants if not name.strip() or "/" in name or name[0] == "."]
        if bad:
            raise ConfigError(f"ablation.variants: {bad[0]!r} must be a name for a folder")


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRun:
    """One variant with one seed, the words that train it, and those that test it, if any."""

    variant: str
    seed: int
    root: Path
    words: tuple[str, ...]
    test: tuple[str, ...] = ()

    def scores_file(self) -> Path | None:
        """Path of its scores, once it is done with exactly these overrides."""
        done = self.root / TRAINED
        if not done.is_file() or json.loads(done.read_text("utf-8")) != list(self.words):
            return None
        return max((self.root / "preds").glob("exp_*/scores.json"), default=None)

    def test_file(self) -> Path | None:
        """Path of the scores of its test, once that is done with exactly these words."""
        done = self.root / TESTED
        if not done.is_file() or json.loads(done.read_text("utf-8")) != list(self.test):
            return None
        return self.root / EVALUATION / "scores.json"

    @property
    def is_done(self) -> bool:
        """True where nothing is left to train or to test."""
        return self.scores_file() is not None and not (self.test and self.test_file() is None)


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
    given = config.variants[variant]
    own = (f"seed={seed}", f"experiment.root={root}", "trainer.logger=csv")
    changed = [word for word in given if not word.startswith(TEST_KEYS)]
    test = (
        *words[:2],  # --config and its file
        *(word for word in given if word.startswith(TEST_KEYS)),
        f"predict.input={config.test}",
        f"evaluate.annotations={config.test_labels}",
        f"evaluate.out={root / EVALUATION}",
        f"predict.out={root / PREDICTIONS}",
        f"experiment.root={root}",
    )
    return AblationRun(
        variant=variant,
        seed=seed,
        root=root,
        words=(*words, *changed, *own),
        test=test if config.test else (),
    )


def train_runs(runs: Sequence[AblationRun], jobs: int, progress: Progress) -> None:
    """Trains what is not there yet; raises StoreError, naming the log, where a run fails."""
    missing = [run for run in runs if not run.is_done]
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
    """Trains a run and tests it, as far as that is not done."""
    run.root.mkdir(parents=True, exist_ok=True)
    calls = _Calls(run, {**os.environ, "OMP_NUM_THREADS": str(threads)}, children)
    scores = run.scores_file()
    if scores is None:
        calls.make(["tools.train", *run.words], done=TRAINED, log="log.txt")
        calls.note(run.words, TRAINED)
        scores = run.scores_file()
    if run.test and scores is not None:
        shutil.rmtree(run.root / PREDICTIONS, ignore_errors=True)  # of an earlier training
        model = f"predict.from={scores.parent.name}"
        calls.make(["tools.evaluate", *run.test, model], done=TESTED, log="test_log.txt")
        calls.note(run.test, TESTED)


@dataclass(frozen=True, slots=True)
class _Calls:
    """Calls of commands for one run."""

    run: AblationRun
    environment: dict[str, str]
    children: Children

    def make(self, command: list[str], *, done: str, log: str) -> None:
        """Calls a command; raises StoreError, naming the log, where it fails."""
        root = self.run.root
        (root / done).unlink(missing_ok=True)
        with (root / log).open("w", encoding="utf-8") as out:
            code = self.children.run(command, self.environment, out)
        if code:
            raise StoreError(
                f"{self.run.variant}, seed {self.run.seed}, ended with exit code {code}: see "
                f"{root / log}"
            )

    def note(self, words: Sequence[str], done: str) -> None:
        """Writes down the words by which a call has ended well."""
        (self.run.root / done).write_text(json.dumps(list(words)), encoding="utf-8")


def section_of(config: AblationConfig, runs: Sequence[AblationRun]) -> Section:
    """The table: mean and spread (standard deviation over seeds) of each score."""
    rows = []
    for variant, changes in config.variants.items():
        scores = [_read_scores(run) for run in runs if run.variant == variant]
        cells = [_mean_and_spread([one["overall"].get(key) for one in scores]) for key in METRICS]
        if config.test:
            tests = [_test_scores(run) for run in runs if run.variant == variant]
            cells += [_median_and_range([one.get(key) for one in tests]) for key in TEST_SCORES]
        seconds = [sum(fold["duration_s"] for fold in one["folds"]) for one in scores]
        rows.append((variant, " ".join(changes), *cells, f"{statistics.mean(seconds):.0f}"))
    tested = [f"test {METRICS[key].title}" for key in TEST_SCORES] if config.test else []
    columns = ("variant", "what it changes", *TITLES, *tested, "seconds a run")
    text = (
        f"Means and standard deviations over {len(config.seeds)} seeds, which decide "
        "whatever is drawn: initial weights, order, augmentation, and folds that are not given."
    )
    if config.test:
        text += f" Of {config.test}, windows: medians, least to greatest."
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


def _test_scores(run: AblationRun) -> dict[str, Any]:
    """Scores of all windows of the test."""
    file = run.test_file()
    if file is None:
        raise StoreError(f"{run.variant}, seed {run.seed}, has no test in {run.root}: run it again")
    windows: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["levels"][0]
    return windows


def _median_and_range(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{statistics.median(known):.3f} ({min(known):.3f} to {max(known):.3f})"


def _mean_and_spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = statistics.stdev(known) if len(known) > 1 else 0.0
    return f"{statistics.mean(known):.3f} ± {spread:.3f}"
