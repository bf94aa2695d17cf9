"""Folds for cross validation: grouped, so that takes of one source never straddle two folds, and
stratified by primary label. The splits are those of scikit-learn.

Rules beyond theirs:
* Labels with fewer recordings than folds are one stratum together, so that each fold gets its
  share of the rare ones; where even that is too small, it joins the commonest label.
* `stratified_group` without any group of two or more is `stratified`.
* The values of `cv=column` are kept as given, and training holds out those from 0 on only, unless
  told to; other folds count from 0.
* Recordings of the same bytes are one group, and in one fold, for every `cv` but `column`.
* Cells that are missing (empty, NaN, NA ...) join no group.
"""

import logging
from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.splitters import (
    split_evenly,
    split_groups,
    split_stratified,
    split_stratified_groups,
)
from storage.errors import ConfigError
from storage.options import check_at_least, check_choice, option
from storage.source.cells import given

logger = logging.getLogger(__name__)
COPIES = "content_hash"  # column whose equal values are recordings of the same bytes
RARE_BELOW = 10
CV = ("stratified_group", "stratified", "group", "kfold", "column")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldConfig:
    """Config of the split of recordings into folds."""

    cv: str = option("stratified_group", "stratified_group, stratified, group, kfold or column")
    num_folds: int = option(5, "number of folds; cv=column takes what the column has")
    column: str = option("fold", "cv=column: csv column of fold numbers; below 0: never held out")
    group_by: str = option(
        "auto", "column whose values stay together, or auto: same url, or author, place and label"
    )
    rare_below: int = option(
        RARE_BELOW,
        "classes with fewer recordings to learn from, mean of folds, are also scored apart",
    )

    def __post_init__(self) -> None:
        check_choice(self, "folds", "cv", CV)
        check_at_least(self, "folds", 2, "num_folds")
        check_at_least(self, "folds", 0, "rare_below")


def assign_folds(recordings: pl.DataFrame, config: FoldConfig, seed: int) -> np.ndarray:
    """Returns the fold of each recording, int64 [n]; copies of one content are in one fold.

    Raises ConfigError where a column is missing or there are too few recordings or groups.
    """
    if config.cv == "column":
        return _column_folds(recordings, config.column)
    folds = _drawn_folds(recordings, config, seed)
    if COPIES in recordings.columns:
        index, content = _values(recordings, [COPIES])
        _, first = np.unique(content, return_index=True)
        folds[index] = folds[index[first]][content]
    return folds


def _drawn_folds(recordings: pl.DataFrame, config: FoldConfig, seed: int) -> np.ndarray:
    _check_enough(len(recordings), config.num_folds, "recordings")
    strata, num_folds = _strata(recordings, config.num_folds), config.num_folds
    state = seed % 2**32
    if config.cv == "kfold":
        return split_evenly(len(recordings), num_folds, state)
    groups = group_numbers(recordings, config.group_by)
    num_groups = int(groups.max()) + 1
    if config.cv == "stratified" or (
        config.cv == "stratified_group" and num_groups == len(recordings)
    ):
        return split_stratified(strata, num_folds, state)
    _check_enough(num_groups, num_folds, f"groups (folds.group_by={config.group_by})")
    if config.cv == "group":
        return split_groups(np.random.default_rng(state).permutation(num_groups)[groups], num_folds)
    return split_stratified_groups(strata, groups, num_folds, state)


def group_numbers(recordings: pl.DataFrame, group_by: str) -> np.ndarray:
    """Returns the group of each recording, int64 [n], counted from 0 in order of appearance.

    `auto` groups recordings with the same url, and those of one author, latitude, longitude and
    label, as far as these are given; a recording without any is a group by itself. Copies, of one
    `content_hash`, are always one group. Raises ConfigError where `group_by` is no column.
    """
    from scipy.sparse import coo_array  # half a second, which `--help` can do without
    from scipy.sparse.csgraph import connected_components

    if group_by == "auto":
        columns = set(recordings.columns)
        keys = [["url"], ["author", "latitude", "longitude", "primary_label"]]
        keys = [names for names in keys if columns.issuperset(names)]
    elif group_by in recordings.columns:
        keys = [[group_by]]
    else:
        raise ConfigError(
            f"folds.group_by={group_by} is neither auto nor a column; "
            f"there are {', '.join(recordings.columns)}"
        )
    if COPIES in recordings.columns:
        keys.append([COPIES])
    links, num_nodes = [np.empty((2, 0), np.int64)], len(recordings)
    for names in keys:
        index, value = _values(recordings, names)
        links.append(np.stack([index, num_nodes + value]))
        num_nodes += len(recordings)
    ends = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(ends.shape[1]), ends), shape=(num_nodes, num_nodes))
    _, groups = connected_components(graph, directed=False)  # numbered in order of the nodes
    return np.asarray(groups[: len(recordings)], np.int64)


def _values(recordings: pl.DataFrame, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns recordings with values in all columns, and numbers of these values, int64 [k]."""
    texts = [given(pl.lit(recordings[name])) for name in names]
    is_given = pl.all_horizontal(text.is_not_null() for text in texts)
    values = (
        recordings.select(pl.concat_str(texts, separator="\n").alias("value"), given=is_given)
        .with_row_index("index")
        .filter("given")
        .select(pl.col("index").cast(pl.Int64), pl.col("value").rank("dense").cast(pl.Int64) - 1)
    )
    return values["index"].to_numpy(), values["value"].to_numpy()


def _strata(recordings: pl.DataFrame, num_folds: int) -> np.ndarray:
    """Returns the primary label of each recording as a number, rare labels pooled; int64 [n]."""
    labels = recordings["primary_label"].fill_null("").to_numpy()
    _, strata, counts = np.unique(labels, return_inverse=True, return_counts=True)
    common = int(np.argmax(counts))
    rare = counts[strata] < num_folds
    pool = len(counts) if rare.sum() >= num_folds else common
    strata[rare] = pool
    return strata.astype(np.int64)


def _column_folds(recordings: pl.DataFrame, column: str) -> np.ndarray:
    if column not in recordings.columns:
        raise ConfigError(
            f"folds.cv=column needs the column {column!r} in the csv (folds.column names it); "
            f"there are {', '.join(recordings.columns)}"
        )
    numbers = recordings[column].cast(pl.Float64, strict=False)
    integral = numbers.is_not_null() & (numbers == numbers.round())
    if not integral.all():
        first = recordings.filter(~integral).row(0, named=True)
        raise ConfigError(
            f"folds.column={column} must be a whole number for every recording; "
            f"{first['recording_id']} has {first[column]!r}"
        )
    _note_parted_copies(recordings, column, numbers)
    return numbers.cast(pl.Int64).to_numpy()


def _note_parted_copies(recordings: pl.DataFrame, column: str, folds: pl.Series) -> None:
    """Says where recordings of the same bytes are in different folds: their scores flatter."""
    if COPIES not in recordings.columns:
        return
    copies = pl.DataFrame({"bytes": recordings[COPIES], "fold": folds}).drop_nulls()
    parted = copies.filter(pl.col("fold").n_unique().over("bytes") > 1)
    if len(parted):
        logger.warning(
            f"folds.column={column} puts {len(parted)} recordings of {parted['bytes'].n_unique()} "
            "contents, equal byte for byte, into different folds: what was learned is scored"
        )


def _check_enough(have: int, num_folds: int, what: str) -> None:
    if have < num_folds:
        raise ConfigError(f"folds.num_folds={num_folds} needs as many {what}; there are {have}")
