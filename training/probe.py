"""Linear probes on embeddings, with the folds, tables and scores of a training.

    report = probe_folds(read_table(path), split, ProbeRun(...))
    print(report.table())

Makes an experiment as `cross_validation` does: weights/exp_012/fold_0.safetensors,
preds/exp_012/ with oof.parquet, oof_recordings.parquet, classes.csv and scores.json.

Shapes: N slices, R recordings of the split, C classes.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from datasets.folds import RARE_BELOW
from datasets.labels import taxonomy_names
from storage.errors import ConfigError
from storage.objects.client import DEFAULT, RemoteConfig
from storage.output_files import output_file
from training.experiments.classes import class_names
from training.experiments.experiment import (
    ExperimentConfig,
    guard_experiment,
    share_experiment,
)
from training.experiments.outcome import read_report, write_report
from training.experiments.report import OOF, POOLED_OOF, FoldResult, TrainingReport
from training.experiments.settings import write_settings
from training.fold_table import part_facts
from training.inference.embeddings.config import RECORDING, ProbeConfig
from training.inference.embeddings.linear_probe import (
    ENDING,
    ProbeOrigin,
    fit_probe,
    write_probe,
)
from training.inference.embeddings.table import EmbeddingTable
from training.inference.similarity.agreement import label_agreement
from training.inference.similarity.space import unit_vectors
from training.model.predict import Predictions, oof_frame, pool_recordings
from training.runtime.memory import release_memory
from training.split import Split

MAX_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRun:
    """Settings of a run. `settings`: the resolved config, to be recorded."""

    probe: ProbeConfig
    experiment: ExperimentConfig
    secondary_weight: float
    settings: Mapping[str, Any]
    rare_below: int = RARE_BELOW
    remote: RemoteConfig = DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProbeSlices:
    """The slices of the recordings that are scored."""

    rows_N: np.ndarray  # int64
    recording_no_N: np.ndarray  # int64, lines of `split.recordings`
    embeddings_NE: np.ndarray  # float32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProbeReport:
    """Scores of the probe; `neighbour_accuracy`: share of recordings, see `neighbour_accuracy`."""

    training: TrainingReport
    neighbour_accuracy: float

    def table(self) -> str:
        """Formats the scores of the folds, and the line of the nearest neighbours."""
        return (
            f"{self.training.table()}\nnearest neighbour outside its fold has the same label: "
            f"{self.neighbour_accuracy:.3f} of recordings"
        )


def probe_folds(table: EmbeddingTable, split: Split, run: ProbeRun) -> ProbeReport:
    """Fits one probe per fold and writes the experiment; ConfigError on what cannot work."""
    slices = choose_slices(table, split)
    accuracy = neighbour_accuracy(slices, split)
    experiment = share_experiment(run.experiment, remote=run.remote)
    with guard_experiment(experiment):
        write_settings(experiment, run.settings)
        taxa = taxonomy_names(split.recordings)
        results, frames, pooled = [], [], []
        for fold in split.train_folds:
            start_s = time.monotonic()
            probe = fit_probe(
                *_learned_from(slices, split, fold, run.probe), split.labels, run.probe
            )
            origin = ProbeOrigin(
                fold=fold, model=table.about.model, recipe=table.about.recipe, names=taxa
            )
            write_probe(probe, origin, experiment.weights / f"fold_{fold}{ENDING}")
            held_out_N = split.fold_R[slices.recording_no_N] == fold
            predictions = Predictions(
                rows=slices.rows_N[held_out_N],
                recording_no=slices.recording_no_N[held_out_N],
                probabilities=probe.probabilities(slices.embeddings_NE[held_out_N]),
                embeddings=slices.embeddings_NE[held_out_N],
            )
            means = pool_recordings(predictions)
            frames.append(oof_frame(predictions, split.recordings, split.labels, fold=fold))
            pooled.append(oof_frame(means, split.recordings, split.labels, fold=fold).drop("row"))
            results.append(_result(predictions, split, fold, time.monotonic() - start_s))
        for name, parts in ((OOF, frames), (POOLED_OOF, pooled)):
            with output_file(experiment.preds / name) as unfinished:
                pl.concat(parts).write_parquet(unfinished)
        names = class_names(split.recordings)
        about = part_facts(split, run.rare_below)
        report = read_report(experiment, results, names, about, run.secondary_weight)
        write_report(report, names)
        experiment.publish()
    return ProbeReport(training=report, neighbour_accuracy=accuracy)


def choose_slices(table: EmbeddingTable, split: Split) -> ProbeSlices:
    """The embeddings of scored recordings; ConfigError where one of them has none."""
    numbers = dict(zip(split.recordings["recording_id"], range(len(split.recordings)), strict=True))
    number_N = np.array([numbers.get(name, -1) for name in table.frame["recording_id"]], np.int64)
    chosen_N = (number_N >= 0) & split.scored_R[number_N]
    missing = np.setdiff1d(np.flatnonzero(split.scored_R), number_N[chosen_N])
    if len(missing):
        names = split.recordings["recording_id"].gather(missing[:MAX_NAMED]).to_list()
        raise ConfigError(
            f"{len(missing)} recordings have no embedding, among them {', '.join(names)}: embed "
            "the whole store, or give the limit= of the embeddings"
        )
    return ProbeSlices(
        rows_N=table.frame["row"].to_numpy()[chosen_N],
        recording_no_N=number_N[chosen_N],
        embeddings_NE=table.embeddings_NE[chosen_N],
    )


def neighbour_accuracy(slices: ProbeSlices, split: Split) -> float:
    """Share of recordings whose nearest neighbour outside their fold has the same primary label."""
    means = pool_recordings(
        Predictions(
            rows=slices.rows_N,
            recording_no=slices.recording_no_N,
            probabilities=slices.embeddings_NE[:, :0],
            embeddings=slices.embeddings_NE,
        )
    )
    found = label_agreement(
        unit_vectors(means.embeddings),
        split.fold_R[means.recording_no],
        split.truth.primary_R[means.recording_no],
    )
    return found.share


def _learned_from(
    slices: ProbeSlices, split: Split, fold: int, config: ProbeConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and class numbers of the other folds, by slice or by recording."""
    others_N = split.fold_R[slices.recording_no_N] != fold
    embeddings, number = slices.embeddings_NE[others_N], slices.recording_no_N[others_N]
    if config.pool == RECORDING:
        rows = slices.rows_N[others_N]
        pooled = pool_recordings(Predictions(rows, number, embeddings[:, :0], embeddings))
        embeddings, number = pooled.embeddings, pooled.recording_no
    return embeddings, split.truth.primary_R[number]


def _result(predictions: Predictions, split: Split, fold: int, duration_s: float) -> FoldResult:
    return FoldResult(
        fold=fold,
        num_recordings=len(np.unique(predictions.recording_no)),
        num_slices=len(predictions.rows),
        best_epoch=1,
        num_epochs=1,
        scores=split.truth.score(predictions.probabilities, predictions.recording_no),
        plan_digest="",
        memory=release_memory(),
        duration_s=duration_s,
    )
