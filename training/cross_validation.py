"""K-fold training from a store or from shards: folds, experiment, predictions, scores.

    report = train_folds(open_store("data/store"), TrainingConfig(train_folds=[0, 1]), say=print)
    print(report.table())

    recordings --labels, folds--> FoldData --train_fold--> fold_K.ckpt, Predictions
               --> oof.parquet, embeddings.parquet, scores.json

Shapes: R recordings, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from datasets.augment import AugmentConfig
from datasets.epoch_plan import SamplingConfig
from datasets.folds import FoldConfig, assign_folds
from datasets.labels import Labels
from datasets.reader import LoaderConfig
from datasets.slice_source import SliceSource
from storage.errors import ConfigError
from storage.options import option
from training.data_module import FoldData
from training.experiment import (
    Experiment,
    ExperimentConfig,
    guard_experiment,
    take_experiment,
    write_settings,
)
from training.fold import FoldRun, train_fold
from training.losses import LossConfig
from training.metrics import Scores, Truth
from training.models import ModelConfig
from training.module import ModuleConfig
from training.optimizers import OptimizerConfig
from training.predict import Predictions, embedding_frame, oof_frame
from training.report import TrainingReport
from training.trainer import (
    Machine,
    TrainerConfig,
    accumulation,
    choose_machine,
    torch_threads,
)

OOF, EMBEDDINGS, SCORES = "oof.parquet", "embeddings.parquet", "scores.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Everything that training depends on; sections and keys as in the root config."""

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    folds: FoldConfig = field(default_factory=FoldConfig)
    train_loader: LoaderConfig = field(default_factory=LoaderConfig)
    val_loader: LoaderConfig = field(default_factory=LoaderConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
    train_folds: list[int] = field(
        default_factory=list,
        metadata={"help": "folds to train, each held out in turn, as in [0,1]; []: all of them"},
    )
    seed: int = option(0, "decides every draw: folds, sampling, augmentation, initial weights")
    limit: int | None = option(None, "only so many recordings, spread over all, for a first look")

    def __post_init__(self) -> None:
        if len(set(self.train_folds)) < len(self.train_folds):
            raise ConfigError(f"train_folds={self.train_folds} names a fold twice")
        if self.limit is not None and self.limit < 2:
            raise ConfigError(f"limit={self.limit}: training needs at least 2 recordings")
        accumulation(self.trainer.effective_batch_size, self.train_loader.batch_size)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Which recordings are used, what they are, and in which fold; arrays have R lines.

    `recordings` are all of the source, so a line number is a batch's `recording_no`.
    """

    recordings: pl.DataFrame
    used_R: np.ndarray  # bool
    fold_R: np.ndarray  # int64, of the used ones
    train_folds: tuple[int, ...]
    labels: Labels
    targets_RC: np.ndarray
    truth: Truth


def train_folds(
    source: SliceSource, config: TrainingConfig, *, say: Callable[[str], None]
) -> TrainingReport:
    """Trains the folds of a config, one after the other, as a new numbered experiment.

    An exception cleans up what the experiment has written; raises ConfigError on what cannot
    work. `configs/exp_XXX.yaml` records all fields of `config`, those of a subclass too.
    """
    machine = choose_machine(config.trainer)
    split = split_recordings(source, config)
    experiment = take_experiment(config.experiment)
    say("\n".join([f"{experiment.name}: {source.url}", *machine.lines()]))
    with guard_experiment(experiment, say), torch_threads(int(machine.threads.value)):
        write_settings(experiment, asdict(config))
        run = _fold_run(source, config, split, experiment, machine)
        results = []
        for fold in split.train_folds:
            result, predictions = train_fold(run, fold_data(source, split, fold, config), fold, say)
            _write_part(experiment.preds, predictions, split, fold)
            results.append(result)
        for name in (OOF, EMBEDDINGS):
            _join_parts(experiment.preds, name, split.train_folds)
        report = TrainingReport(
            experiment=experiment,
            folds=results,
            overall=_overall(experiment.preds / OOF, split),
        )
        report.write_scores(experiment.preds / SCORES)
    return report


def split_recordings(source: SliceSource, config: TrainingConfig) -> Split:
    """Labels, folds and targets of a source; raises ConfigError where they cannot be had."""
    recordings = source.recordings()
    used = _used(recordings, config.limit)
    fold_R = np.zeros(len(recordings), np.int64)
    fold_R[used] = assign_folds(recordings.filter(used), config.folds, config.seed)
    chosen = _chosen_folds(fold_R[used], config)
    labels = Labels.of(recordings.filter(used))
    labelled = recordings.with_columns(primary_label=pl.when(pl.Series(used)).then("primary_label"))
    return Split(
        recordings=recordings,
        used_R=used,
        fold_R=fold_R,
        train_folds=chosen,
        labels=labels,
        targets_RC=labels.targets(labelled, config.loss.secondary_weight),
        truth=Truth.of(labelled, labels, config.loss.secondary_weight),
    )


def fold_data(source: SliceSource, split: Split, fold: int, config: TrainingConfig) -> FoldData:
    """What one fold reads: the other folds to learn from, this one held out."""
    held_out = split.fold_R == fold
    return FoldData(
        source=source,
        train_recordings=split.recordings.filter(split.used_R & ~held_out),
        held_out_recordings=split.recordings.filter(split.used_R & held_out),
        targets=split.targets_RC,
        sampling=config.sampling,
        train_loader=config.train_loader,
        val_loader=config.val_loader,
        seed=config.seed,
    )


def _used(recordings: pl.DataFrame, limit: int | None) -> np.ndarray:
    """Recordings with a primary label, at most `limit`, evenly spread; bool [R]."""
    labelled = np.flatnonzero(recordings["primary_label"].is_not_null().to_numpy())
    if limit is not None and limit < len(labelled):
        labelled = labelled[np.linspace(0, len(labelled) - 1, limit).round().astype(np.int64)]
    used = np.zeros(len(recordings), bool)
    used[labelled] = True
    return used


def _chosen_folds(fold_U: np.ndarray, config: TrainingConfig) -> tuple[int, ...]:
    there = np.unique(fold_U).tolist()
    if len(there) < 2:
        raise ConfigError(f"all recordings are in fold {there}; training needs at least two folds")
    strange = [fold for fold in config.train_folds if fold not in there]
    if strange:
        raise ConfigError(
            f"train_folds={config.train_folds}: there is no fold {strange[0]}; "
            f"folds.cv={config.folds.cv} gives {', '.join(map(str, there))}"
        )
    return tuple(config.train_folds or there)


def _fold_run(
    source: SliceSource,
    config: TrainingConfig,
    split: Split,
    experiment: Experiment,
    machine: Machine,
) -> FoldRun:
    module = ModuleConfig(
        loss=config.loss,
        optimizer=config.optimizer,
        augment=config.augment,
        output=config.model.output,
        seed=config.seed,
        top_db=source.recipe.top_db,
    )
    return FoldRun(
        experiment=experiment,
        machine=machine,
        model=config.model,
        module=module,
        trainer=config.trainer,
        labels=split.labels,
        recipe=source.recipe,
        truth=split.truth,
        config=asdict(config),
    )


def _write_part(folder: Path, predictions: Predictions, split: Split, fold: int) -> None:
    """Keeps the predictions of a fold until all folds are done."""
    oof = oof_frame(predictions, split.recordings, split.labels, fold=fold)
    oof.write_parquet(_part(folder, OOF, fold))
    embeddings = embedding_frame(predictions, split.recordings, fold=fold)
    embeddings.write_parquet(_part(folder, EMBEDDINGS, fold))


def _part(folder: Path, name: str, fold: int) -> Path:
    return folder / f".fold_{fold}.{name}"


def _join_parts(folder: Path, name: str, folds: Sequence[int]) -> None:
    """Makes one file of the folds' own, without holding them all in memory."""
    parts = [_part(folder, name, fold) for fold in folds]
    pl.concat([pl.scan_parquet(part) for part in parts]).sink_parquet(folder / name)
    for part in parts:
        part.unlink()


def _overall(oof: Path, split: Split) -> Scores:
    """The scores of all held-out slices together."""
    frame = pl.read_parquet(oof)
    place = {name: number for number, name in enumerate(split.recordings["recording_id"])}
    recording_no = np.array([place[name] for name in frame["recording_id"]], np.int64)
    probabilities = frame.select(f"p_{name}" for name in split.labels.names).to_numpy()
    return split.truth.score(probabilities, recording_no)
