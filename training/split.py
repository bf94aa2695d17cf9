"""Split of a source or a mix: labels, folds, targets, and what is held out.

    split = split_recordings(source, config)
    data = fold_data(source, split, fold=0, config=config)

A recording is held out in one fold if it has a primary label and its source has neither
`train_only` nor segments. One without a label is learned from if it has soft targets or labelled
segments, else not used. Classes are the primary labels of the recordings in use, the columns of the
soft targets, and the labels of segments that taxonomy.csv has. Labels of a source with soft
targets, segments or `train_only`, which may be names of folders, make no class: those that are none
count as missing. Where people refuse a recording's label, the one that they give counts in all of
this; folds are those of the labels as stored, so that no verdict moves a recording to another.

Shapes: R recordings, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.augment.host_images import ImageTransforms
from datasets.augment.mix import POWER
from datasets.chunks import chunk_shape
from datasets.folds import assign_folds
from datasets.labels import Labels
from datasets.levels import Levels
from datasets.sampling.epoch_plan import plan_all
from datasets.slice_source import SOURCE, SliceSource, source_classes
from datasets.sources.background import BackgroundPlan
from datasets.sources.mix import SourceSpec
from datasets.sources.no_call import mark_sources, silent_slices
from datasets.sources.reviewed import Reviewed, read_reviewed
from datasets.sources.soft_targets import SoftSources, read_soft_sources
from datasets.sources.teacher import Teacher, read_teacher
from datasets.targets import SoftSlices, Targets
from storage.errors import ConfigError
from storage.recipe import Recipe
from storage.source.subset import limited
from training.config import TrainingConfig
from training.fold_data import FoldData, needs_levels
from training.model.metrics import Truth
from training.runtime.ranks import first_rank_logger

logger = first_rank_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Recordings of a training with their labels and folds; arrays have R rows.

    `recordings` are all of the source, so a line number is a batch's `recording_no`; their
    primary_label is null where it is no class.
    """

    recordings: pl.DataFrame
    used_R: np.ndarray  # bool
    scored_R: np.ndarray  # bool: used, and held out in one fold
    fold_R: np.ndarray  # int64, of the scored ones
    train_folds: tuple[int, ...]
    labels: Labels
    targets: Targets
    truth: Truth
    eligible: np.ndarray | None  # rows to learn from, int64; None: all
    reviews: str = ""  # digest of the verdicts on them

    def check_fold(self, fold: int) -> int:
        """The fold, if there is such a one; else raises ConfigError."""
        there = np.unique(self.fold_R[self.scored_R]).tolist()
        if fold not in there:
            raise ConfigError(f"there is no fold {fold}; there are {', '.join(map(str, there))}")
        return fold


def split_recordings(source: SliceSource, config: TrainingConfig) -> Split:
    """Labels, folds and targets of a source; raises ConfigError where they cannot be had."""
    recordings = source.recordings()
    _check_mixing(source.recipe, config)
    _check_sources(recordings, config.sources)
    stored = mark_sources(recordings, config.sources, config.labels.no_call)
    soft = read_soft_sources(stored, config.sources, source)
    reviewed = read_reviewed(stored, config.sources, source)
    recordings = reviewed.corrected(stored)
    labelled_R = recordings["primary_label"].is_not_null().to_numpy()
    covered_R = soft.covered_R | reviewed.covers(stored)
    used_R = _limited(recordings, labelled_R | covered_R, config.limit)
    train_only_R = _inside(recordings, config.sources, lambda spec: not spec.is_held_out)
    _check_any_scored(used_R & labelled_R & ~train_only_R)
    guest_R = _inside(recordings, config.sources, lambda spec: spec.is_guest)
    own, names = recordings.filter(used_R & ~guest_R), soft.names | reviewed.names
    labels = _choose_labels(source, own, config, names)
    labelled_R &= ~_foreign(recordings, guest_R, labels, used_R & ~covered_R)
    recordings = _keep_labels(recordings, labelled_R)
    used_R &= labelled_R | covered_R
    scored_R = used_R & labelled_R & ~train_only_R
    _check_any_scored(scored_R)
    fold_R = _fold_numbers(stored, scored_R | (reviewed.lost(stored) & ~train_only_R), config)
    labelled = _keep_labels(recordings, used_R)
    targets, eligible = _find_targets(source, labelled, labels, (soft, reviewed), config)
    return Split(
        recordings=recordings,
        used_R=used_R,
        scored_R=scored_R,
        fold_R=fold_R,
        train_folds=_chosen_folds(fold_R[scored_R], config),
        labels=labels,
        targets=targets,
        truth=Truth.of(labelled, labels, config.loss.secondary_weight),
        eligible=eligible,
        reviews=reviewed.digest,
    )


def fold_data(
    source: SliceSource,
    split: Split,
    fold: int,
    config: TrainingConfig,
    background: BackgroundPlan | None = None,
    teacher: Teacher | None = None,
) -> FoldData:
    """Data of one fold: this one held out, all others to learn from."""
    images = config.augment.images
    shape = chunk_shape(config.chunk, source.recipe)
    levels = None
    if needs_levels(config):
        levels = Levels(source)
        levels.load()  # or say now why not
    pool_levels = None
    if config.trainer.pool_scale_db:
        pool_levels = levels or Levels(source)
        pool_levels.max_db(np.empty(0, np.int64))  # or say now why not
    held_out_R = split.scored_R & (split.fold_R == fold)
    return FoldData(
        source=source,
        config=config,
        train_loader=config.train_loader,
        train_recordings=split.recordings.filter(split.used_R & ~held_out_R),
        held_out_recordings=split.recordings.filter(held_out_R),
        targets=split.targets,
        eligible=split.eligible,
        names=split.labels.names,
        reviews=split.reviews,
        background=background,
        transform=ImageTransforms(images, seed=config.seed, slice_shape=shape) if images else None,
        levels=levels,
        pool_levels=pool_levels,
        teacher=teacher,
    )


def read_split_teacher(source: SliceSource, split: Split, config: TrainingConfig) -> Teacher | None:
    """The embeddings that a config names, of all that is learned from; None where it names none.

    Raises ConfigError where slices lack one against `teacher.missing`.
    """
    if not config.teacher.given:
        return None
    recordings = split.recordings.filter(split.used_R)
    rows = plan_all(recordings).rows
    if split.eligible is not None:
        rows = np.intersect1d(rows, split.eligible)
    teacher = read_teacher(source, recordings, rows, config.teacher)
    count = len(np.intersect1d(rows, teacher.rows))
    logger.info(f"teacher: {teacher.width} numbers of {count:,} of {len(rows):,} slices")
    return teacher


def _check_mixing(recipe: Recipe, config: TrainingConfig) -> None:
    """Raises ConfigError where absolute cells would be added as if relative to a maximum."""
    if recipe.relative_to_slice:
        return
    added = {
        "sampling.inject": bool(config.sampling.inject),
        "augment.background.p": config.augment.background.p > 0,
        "augment.mixup.domain=power": config.augment.mixup.p > 0
        and config.augment.mixup.domain == POWER,
    }
    if wrong := [name for name, given in added.items() if given]:
        raise ConfigError(
            f"{wrong[0]} adds slices in power, which needs recipe.normaliser=slice_max; this store "
            f"has {recipe.normaliser}: leave it out, or build with the other"
        )


def _check_sources(recordings: pl.DataFrame, specs: Mapping[str, SourceSpec]) -> None:
    """Raises ConfigError unless the recordings are those of a mix of just these sources."""
    if not specs:
        return
    there = set(recordings[SOURCE]) if SOURCE in recordings.columns else set()
    if not there or not there <= set(specs):
        raise ConfigError(
            f"sources names {', '.join(specs)}, but what is read has {', '.join(there) or 'none'}: "
            "open it with open_sources(config.sources)"
        )


def _choose_labels(
    source: SliceSource, labelled: pl.DataFrame, config: TrainingConfig, soft_names: frozenset[str]
) -> Labels:
    """The classes; says which of taxonomy.csv are none."""
    taxonomy = source_classes(source)
    labels = Labels.chosen(config.labels, labelled, taxonomy=taxonomy, extra=soft_names)
    if note := labels.note(taxonomy):
        logger.info(note)
    return labels


def _find_targets(
    source: SliceSource,
    recordings: pl.DataFrame,
    labels: Labels,
    given: tuple[SoftSources, Reviewed],
    config: TrainingConfig,
) -> tuple[Targets, np.ndarray | None]:
    """Targets of all slices, and the rows to learn from; None: all."""
    soft, reviewed = given
    no_call = config.labels.no_call
    hard = labels.targets(recordings, config.loss.secondary_target)
    targets = soft.targets(hard, labels, *_silent(source, labels, no_call))
    return reviewed.apply(targets, labels, recordings, soft.eligible, no_call)


def _silent(
    source: SliceSource, labels: Labels, no_call: str
) -> tuple[list[tuple[np.ndarray, SoftSlices]], str]:
    """Targets of the silent slices, where there is a class for them, and that class."""
    given = [silent_slices(source.slice_index(), labels, no_call)] if no_call else []
    return given, no_call


def _keep_labels(recordings: pl.DataFrame, kept_R: np.ndarray) -> pl.DataFrame:
    """The recordings with the primary labels of some, null for the others."""
    return recordings.with_columns(primary_label=pl.when(pl.Series(kept_R)).then("primary_label"))


def _check_any_scored(scored_R: np.ndarray) -> None:
    if not scored_R.any():
        raise ConfigError("no recording can be held out: none has a label and may be scored")


def _fold_numbers(
    recordings: pl.DataFrame, scored_R: np.ndarray, config: TrainingConfig
) -> np.ndarray:
    """Folds of the recordings that are scored; 0 for others."""
    fold_R = np.zeros(len(recordings), np.int64)
    fold_R[scored_R] = assign_folds(recordings.filter(scored_R), config.folds, config.seed)
    return fold_R


def _foreign(
    recordings: pl.DataFrame, guest_R: np.ndarray, labels: Labels, wanted_R: np.ndarray
) -> np.ndarray:
    """True where a guest source's label is no class; says how many that leaves out of `wanted`."""
    is_class = recordings["primary_label"].is_in(labels.names).fill_null(False)
    foreign_R: np.ndarray = recordings["primary_label"].is_not_null().to_numpy() & guest_R
    foreign_R &= ~is_class.to_numpy()
    left_out = recordings["primary_label"].filter(pl.Series(foreign_R & wanted_R))
    if names := sorted(set(left_out)):
        logger.info(
            f"{len(left_out)} recordings of train_only sources are not learned from: their "
            f"{len(names)} labels, such as {names[0]}, are no class of the other sources; "
            "labels.classes= takes them"
        )
    return foreign_R


def _inside(
    recordings: pl.DataFrame, specs: Mapping[str, SourceSpec], wanted: Callable[[SourceSpec], bool]
) -> np.ndarray:
    """bool [R]: recordings of the sources whose config fulfils a condition."""
    names = [name for name, spec in specs.items() if wanted(spec)]
    if not names:
        return np.zeros(len(recordings), bool)
    return recordings[SOURCE].is_in(names).to_numpy()


def _limited(recordings: pl.DataFrame, usable_R: np.ndarray, limit: int | None) -> np.ndarray:
    """bool [R]: at most `limit` of the usable recordings, spread over the classes."""
    usable = np.flatnonzero(usable_R)
    used = np.zeros(len(usable_R), bool)
    used[usable[limited(recordings[usable], limit)]] = True
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
    return tuple(config.train_folds or [fold for fold in there if fold >= 0])
