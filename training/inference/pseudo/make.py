"""Does a round of pseudo-labels: teachers and a pool -> soft targets, weights, a report.

    raw, by teacher --out of fold--> blend --calibration, post--> transform --> targets.parquet

In the folder of the predictions, `predict.out`:

    targets.parquet                  recording_id, slice_no, fold, weight, p_<label>
    targets_without_fold_K.parquet   the same without the recordings of a fold of the pool
    pool_recordings.parquet          recording_id, fold, num_slices, weight, top_label, top
    pseudo.json                      settings and report
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from storage.errors import ConfigError
from storage.objects.client import DEFAULT, RemoteConfig
from storage.output_files import output_file
from storage.progress import Progress, silent
from storage.source.recorder_facts import RecorderFacts
from storage.store import Store, open_store
from training.inference.model_files import ModelFiles
from training.inference.post.processed_run import ProcessedRun, process_run
from training.inference.predictor import predict_recordings
from training.inference.pseudo.config import ALLOW, REFUSE, RoundConfig
from training.inference.pseudo.given import open_given
from training.inference.pseudo.pool import (
    PoolTargets,
    collect_pool,
    recordings_frame,
    targets_frame,
)
from training.inference.pseudo.report import RoundReport, report_round
from training.inference.pseudo.teachers import (
    RawRun,
    check_seen,
    one_teacher_each,
    pool_folds,
    seen_by,
    split_weights,
    without_seen,
)
from training.inference.pseudo.transform import apply_steps, parse_transform
from training.inference.reading.inputs import Inputs
from training.inference.results import RawPredictions, Results, Run
from training.inference.run_outputs import class_table, with_facts

TARGETS, RECORDINGS, RECORD = "targets.parquet", "pool_recordings.parquet", "pseudo.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOutcome:
    """A round that is done; `stop` where another one would change little."""

    targets: Path
    report: RoundReport
    stop: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Teachers:
    """Models, the blend of them, and the recordings that each may not label, bool [B, R]."""

    models: list[ModelFiles]
    config: RoundConfig
    seen_BR: np.ndarray | None


def make_round(
    config: RoundConfig,
    models: Sequence[ModelFiles],
    inputs: Inputs,
    *,
    remote: RemoteConfig = DEFAULT,
    progress: Progress = silent,
) -> RoundOutcome:
    """Predicts the pool with its teachers and writes the targets of the next round.

    Raises ConfigError on what cannot work, before anything is predicted as far as it is known.
    """
    if not inputs.store:
        raise ConfigError(
            f"predict.input={','.join(config.predict.input)} is no store: pseudo-labels are of "
            "slices; make one with tools.build_store source.csv=none"
        )
    with open_store(inputs.store, remote) as pool:
        teachers = _choose_teachers(config, models, pool)
        config = teachers.config
        predict_recordings(
            config.predict,
            teachers.models,
            inputs,
            check=lambda run, _: _check_post(config, run),
            remote=remote,
            progress=progress,
        )
        results = Results(config.predict.out)
        before = collect_pool(
            _blended(results, teachers, pool), results.classes().labels, pool.recordings()
        )
        targets = apply_steps(
            parse_transform(config.pseudo.transform),
            before,
            lambda path, key: open_given(path, pool, before.labels, key),
        )
        return _write(targets, len(before), pool, results, config)


def _choose_teachers(config: RoundConfig, models: Sequence[ModelFiles], pool: Store) -> _Teachers:
    """Takes experiments apart where a teacher has learned from a part of the pool."""
    each = one_teacher_each(models)
    if config.pseudo.seen == ALLOW:
        return _Teachers(models=list(models), config=config, seen_BR=None)
    seen_BR = seen_by(each, pool)
    if not seen_BR.any():
        return _Teachers(models=list(models), config=config, seen_BR=None)
    if config.pseudo.seen == REFUSE:
        check_seen(seen_BR, pool.recordings(), [one.name for one in each])
    apart = replace(config, blend=split_weights(config.blend, models))
    return _Teachers(models=each, config=apart, seen_BR=seen_BR)


def _check_post(config: RoundConfig, run: Run) -> None:
    """Raises ConfigError where blend or steps do not fit the models."""
    classes = class_table(run.classes, config.predict.taxonomy)
    process_run(lambda: (), run.branches, classes, config)


def _blended(results: Results, teachers: _Teachers, pool: Store) -> ProcessedRun:
    """The predictions of the pool after out-of-fold masks, blending and post-processing."""
    facts = RecorderFacts.open(teachers.config.recorder)

    def raw() -> Iterator[RawPredictions]:
        return (with_facts(one, facts) for one in results.iterate())

    classes = class_table(results.classes(), teachers.config.predict.taxonomy)
    run: RawRun = raw
    if teachers.seen_BR is not None:
        run = without_seen(raw, teachers.seen_BR, pool.recordings())
    return process_run(run, results.branches(), classes, teachers.config)


def _write(
    targets: PoolTargets, num_before: int, pool: Store, results: Results, config: RoundConfig
) -> RoundOutcome:
    """Writes the tables and the report of a round."""
    if not len(targets):
        raise ConfigError(
            f"pseudo.transform leaves none of {num_before:,} slices: lower threshold_max"
        )
    pseudo, recordings = config.pseudo, pool.recordings()
    previous = pseudo.previous and open_given(
        pseudo.previous, pool, targets.labels, "pseudo.previous"
    )
    report = report_round(targets, num_before, previous or None)
    stop = report.agreement is not None and report.agreement.says_stop(
        agreement=pseudo.stop_agreement, mass=pseudo.stop_mass
    )
    fold_R = pool_folds(recordings, pseudo.folds)
    frame = targets_frame(targets, recordings, fold_R)
    _put(results.root / RECORDINGS, recordings_frame(targets, recordings, fold_R))
    for fold in range(pseudo.folds):
        name = f"{Path(TARGETS).stem}_without_fold_{fold}.parquet"
        _put(results.root / name, frame.filter(pl.col("fold") != fold))
    document = {
        "predict": results.describe()["fingerprint"],
        "branches": list(results.branches()),
        "blend": asdict(config.blend),
        "calibration": config.calibration,
        "post": config.post,
        "pseudo": asdict(pseudo),
        "stop": stop,
        **report.to_dict(),
    }
    with output_file(results.root / RECORD) as file:
        file.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    _put(results.root / TARGETS, frame)
    return RoundOutcome(targets=results.root / TARGETS, report=report, stop=stop)


def _put(path: Path, frame: pl.DataFrame) -> None:
    with output_file(path) as file:
        frame.write_parquet(file, compression="zstd")
