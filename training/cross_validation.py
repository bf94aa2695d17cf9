"""K-fold training from a store or from shards: folds, experiment, predictions, scores.

    report = train_folds(open_store("data/store"), TrainingConfig(train_folds=[0, 1]))
    print(report.table())

    recordings --labels, folds--> FoldData --train_fold--> fold_K.ckpt, Predictions
               --> oof.parquet, embeddings.parquet, both also per recording, scores.json

Shapes: R recordings, C classes.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from datasets.chunks import chunk_shape
from datasets.slice_source import SliceSource
from datasets.sources.background import BackgroundPlan
from storage.errors import ConfigError
from storage.objects.client import RemoteConfig
from storage.output_files import output_file
from training.config import TrainingConfig
from training.experiments.classes import class_names
from training.experiments.experiment import (
    guard_experiment,
)
from training.experiments.jobs import begin_experiment
from training.experiments.outcome import read_report, write_report
from training.experiments.pictures import write_curves
from training.experiments.report import (
    EMBEDDINGS,
    OOF,
    POOLED_EMBEDDINGS,
    POOLED_OOF,
    RESULT,
    FoldResult,
    TrainingReport,
    read_result,
    write_result,
)
from training.experiments.settings import write_settings
from training.fold import FoldRun, label_groups, train_fold, warm_start_file
from training.fold_data import FoldData, num_batches
from training.fold_table import class_problems, part_facts, problem_notes
from training.model.models import check_backbone, narrowest_image
from training.model.predict import Predictions, embedding_frame, oof_frame, pool_recordings
from training.runtime.launch import find_launch, joined
from training.runtime.memory import keep_freed_memory
from training.runtime.ranks import first_rank_logger, is_first_rank, wait_for_ranks
from training.runtime.threads import torch_threads
from training.side_by_side import (
    FoldJob,
    at_most_at_once,
    check_side_by_side,
    train_side_by_side,
)
from training.split import Split, fold_data, read_split_teacher, split_recordings
from training.trainer import choose_machine, on_ranks

CURVES = "curves.png"
LOCK_PATIENCE_S = 120.0  # in which a shared disk notices that the node of a lock is lost
logger = first_rank_logger(__name__)

TABLES = (OOF, EMBEDDINGS, POOLED_OOF, POOLED_EMBEDDINGS)


def train_folds(
    source: SliceSource,
    config: TrainingConfig,
    *,
    background: SliceSource | None = None,
    resume: str = "",
) -> TrainingReport:
    """Trains the folds of a config, one after the other, as a new numbered experiment.

    Or goes on with the unfinished one that `resume` names: folds that are done are not trained
    again, and the one that was under way continues after its last checkpoint, at the very sample.

    With `config.sources`, `source` is the mix of them. `background` is for `augment.background`.
    An exception cleans up what the experiment has written; raises ConfigError on what cannot
    work. `configs/exp_XXX.yaml` records all fields of `config`, those of a subclass too. With
    `trainer.devices` above 1 the calling program is started again for each further rank, unless
    torchrun or srun has started all; all return the report, only the first one writes and speaks.
    """
    launch = find_launch()
    given, config = config, replace(config, trainer=on_ranks(config.trainer, launch))
    check_backbone(config.model)
    num_frames = narrowest_image(config.model, chunk_shape(config.chunk, source.recipe))
    split = split_recordings(source, config)
    config = at_most_at_once(config, len(split.train_folds))
    machine = choose_machine(config.trainer, num_frames)
    check_side_by_side(config, machine.accelerator.value)
    behind = _background_plan(background, config)
    teacher = read_split_teacher(source, split, config)
    data_of = partial(fold_data, source, split, config=config, background=behind, teacher=teacher)
    _check_folds(config, split, data_of)
    if not resume:
        _check_beginnings(config, split, source.remote)
    if machine.accelerator.value == "cpu":
        keep_freed_memory()
    with joined(launch, machine.accelerator.value, config.trainer.timeout_s):
        experiment, resume = begin_experiment(
            given.experiment, asdict(given), launch.job if launch else "", resume, source.remote
        )
        run = FoldRun(
            experiment=experiment, machine=machine, config=config, split=split, launch=launch
        )
        _announce(run, source.url)
        return _train_all(run, data_of, None if resume else asdict(given))


def _check_folds(config: TrainingConfig, split: Split, data_of: Callable[..., FoldData]) -> None:
    """Raises ConfigError now on groups and plans that cannot be, not after an experiment began."""
    label_groups(split, config)
    data_of(fold=split.train_folds[0]).planner()


def _check_beginnings(config: TrainingConfig, split: Split, remote: RemoteConfig) -> None:
    """Raises ConfigError where a fold lacks the weights to begin with."""
    if config.trainer.warm_start:
        for fold in split.train_folds:
            warm_start_file(config, fold, remote)


def _announce(run: FoldRun, url: str) -> None:
    notes = problem_notes(run.split.labels.names, class_problems(run.split))
    logger.info("\n".join([f"{run.experiment.name}: {url}", *run.machine.lines(), *notes]))


def _train_all(
    run: FoldRun, data_of: Callable[..., FoldData], settings: dict[str, Any] | None
) -> TrainingReport:
    """Trains all folds under the guard of their experiment; writes its settings if it is new."""
    patience_s = LOCK_PATIENCE_S if run.launch else 0.0
    guard = guard_experiment(run.experiment, resumed=settings is None, patience_s=patience_s)
    with guard, run.watch.watching(), torch_threads(int(run.machine.threads.value)):
        if is_first_rank() and settings is not None:
            write_settings(run.experiment, settings)
        if run.experiment.copy:  # on a shared disk there is nothing to wait for
            run.experiment.share()
        if run.config.trainer.folds_at_once > 1:
            results = _side_by_side(run, data_of)
        else:
            results = [
                _fold_result(run, data_of(fold=fold), fold) for fold in run.split.train_folds
            ]
        return _report(run, results)


def _side_by_side(run: FoldRun, data_of: Callable[..., FoldData]) -> list[FoldResult]:
    """The results of all folds, in their order; those that are done are read."""
    config, done, jobs = run.config.trainer, [], []
    for fold in run.split.train_folds:
        data = data_of(fold=fold)
        if _part(run.experiment.preds, RESULT, fold).is_file():
            done.append(_fold_result(run, data, fold))
        else:
            jobs.append(
                FoldJob(
                    experiment=run.experiment,
                    machine=run.machine,
                    split=run.split,
                    data=data,
                    fold=fold,
                    num_batches=num_batches(data) * config.epochs,
                    launch=run.launch,
                )
            )
    trained = train_side_by_side(
        train_job, jobs, at_once=config.folds_at_once, progress=config.progress
    )
    with closing(trained):
        return sorted(
            [*done, *trained], key=lambda result: run.split.train_folds.index(result.fold)
        )


def train_job(job: FoldJob, on_batches: Callable[[int], None]) -> FoldResult:
    """Trains the fold of a job in a process of its own, and keeps its predictions."""
    keep_freed_memory()
    with torch_threads(int(job.machine.threads.value)):
        return _fold_result(job.run(on_batches), job.data, job.fold)


def _background_plan(
    background: SliceSource | None, config: TrainingConfig
) -> BackgroundPlan | None:
    if config.augment.background.p == 0:
        return None
    if background is None:
        raise ConfigError(
            f"augment.background.p={config.augment.background.p} needs a source of backgrounds: "
            "give background.store= or background.shards=, or set p to 0"
        )
    return BackgroundPlan(background, seed=config.seed, where=config.background.where)


def _fold_result(run: FoldRun, data: FoldData, fold: int) -> FoldResult:
    """Trains a fold and keeps its predictions, unless it was done before."""
    done = _part(run.experiment.preds, RESULT, fold)
    if done.is_file():
        result = read_result(done)
        if result.plan_digest != data.planner()(0).digest:
            raise ConfigError(
                f"fold {fold} was trained on other recordings than are in {data.source.url} now: "
                "resume with those, or start a new training"
            )
        logger.info(f"fold {fold}: done before")
        return result
    result, predictions = train_fold(run, data, fold)
    if is_first_rank():
        _write_part(run, data, predictions, fold)
        write_result(result, done)
        run.experiment.publish()
    wait_for_ranks()
    return result


def _report(run: FoldRun, results: list[FoldResult]) -> TrainingReport:
    """Joins the predictions of all folds and scores them; the first rank writes all there is."""
    folder, first = run.experiment.preds, is_first_rank()
    if first:
        for name in TABLES:  # without holding all folds in memory
            parts = [_part(folder, name, fold) for fold in run.split.train_folds]
            with output_file(folder / name) as unfinished:
                pl.concat(map(pl.scan_parquet, parts)).sink_parquet(unfinished)
    run.experiment.share(folder / OOF, folder / POOLED_OOF)
    names = class_names(run.split.recordings)
    about = part_facts(run.split, run.config.folds.rare_below)
    weight = run.config.loss.secondary_weight
    report = read_report(run.experiment, results, names, about, weight)
    if first:
        kept_epochs = {result.fold: result.best_epoch for result in results}
        write_curves(folder / "log", folder / CURVES, kept_epochs)
        write_report(report, names)
        for path in [*folder.glob(".fold_*"), *folder.glob("..fold_*")]:  # those of kills, too
            path.unlink()
        run.experiment.publish()
    return report


def _write_part(run: FoldRun, data: FoldData, predictions: Predictions, fold: int) -> None:
    """Keeps the predictions of a fold, of slices and of recordings, until all folds are done."""
    folder, split, config = run.experiment.preds, run.split, run.config
    pooled = pool_recordings(
        predictions,
        config.trainer.pool,
        output=config.model.output,
        weights=data.pool_weights(predictions.rows),
    )
    frames = {
        OOF: oof_frame(predictions, split.recordings, split.labels, fold=fold),
        EMBEDDINGS: embedding_frame(predictions, split.recordings, fold=fold),
        POOLED_OOF: oof_frame(pooled, split.recordings, split.labels, fold=fold).drop("row"),
        POOLED_EMBEDDINGS: embedding_frame(pooled, split.recordings, fold=fold).drop("row"),
    }
    for name, frame in frames.items():
        with output_file(_part(folder, name, fold)) as unfinished:
            frame.write_parquet(unfinished)


def _part(folder: Path, name: str, fold: int) -> Path:
    return folder / f".fold_{fold}.{name}"
