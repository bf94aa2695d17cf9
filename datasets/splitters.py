"""Splits of n recordings into folds, equal to those of scikit-learn's splitters, bit for bit.

To import theirs takes longer than to plan an epoch. Each function returns the fold of each
recording, int64 [n]; strata and groups are int64 [n], counted from 0. Shuffles are those of numpy's
`RandomState`, which never changes.
"""

import numpy as np


def split_evenly(num_recordings: int, num_folds: int, seed: int) -> np.ndarray:
    """Splits into folds of equal size; scikit-learn's KFold."""
    order = np.arange(num_recordings)
    np.random.RandomState(seed).shuffle(order)
    folds = np.empty(num_recordings, np.int64)
    for number, held_out in enumerate(np.array_split(order, num_folds)):
        folds[held_out] = number
    return folds


def split_stratified(strata: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Spreads each stratum over the folds; scikit-learn's StratifiedKFold."""
    random = np.random.RandomState(seed)
    _, first, strata = np.unique(strata, return_index=True, return_inverse=True)
    strata = np.argsort(np.argsort(first))[strata]  # numbered in order of appearance
    in_order = np.sort(strata)
    folds = np.empty(len(strata), np.int64)
    for stratum in range(len(first)):
        begin, end = np.searchsorted(in_order, [stratum, stratum + 1])
        given = np.sort(np.arange(begin, end) % num_folds)  # dealt out one by one, in order
        random.shuffle(given)
        folds[strata == stratum] = given
    return folds


def split_groups(groups: np.ndarray, num_folds: int) -> np.ndarray:
    """Puts each group into the fold that has least, the largest first; GroupKFold."""
    sizes = np.bincount(groups)
    held = np.zeros(num_folds, np.int64)
    fold_of_group = np.empty(len(sizes), np.int64)
    for group in np.argsort(sizes, kind="stable")[::-1]:
        fold_of_group[group] = np.argmin(held)
        held[fold_of_group[group]] += sizes[group]
    return np.asarray(fold_of_group[groups])


def split_stratified_groups(
    strata: np.ndarray, groups: np.ndarray, num_folds: int, seed: int
) -> np.ndarray:
    """Puts each group where the strata are spread most evenly; StratifiedGroupKFold.

    Groups of the most uneven strata come first, others in random order.
    """
    _, strata, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    order = np.arange(groups.max() + 1)
    np.random.RandomState(seed).shuffle(order)
    counts = np.zeros((len(order), len(sizes)))  # of a group in each stratum
    np.add.at(counts, (groups, strata), 1)
    order = order[np.argsort(-np.std(counts[order], axis=1), kind="stable")]
    held = np.zeros((num_folds, len(sizes)))
    fold_of_group = np.empty(len(order), np.int64)
    for group in order:
        fold_of_group[group] = best = _best_fold(held, counts[group], sizes)
        held[best] += counts[group]
    return np.asarray(fold_of_group[groups])


def _best_fold(held: np.ndarray, group: np.ndarray, sizes: np.ndarray) -> int:
    """Returns the fold whose strata a group evens out most, of equal ones the smallest.

    held [folds, strata]: recordings so far; group [strata]; sizes [strata]: all recordings.
    """
    best, least, fewest = 0, np.inf, np.inf
    for fold, in_fold in enumerate(held.sum(axis=1)):
        held[fold] += group
        uneven = float(np.mean(np.std(held / sizes, axis=0)))
        held[fold] -= group
        is_equal = abs(uneven - least) <= 1e-8 + 1e-5 * least  # as numpy.isclose has it
        if uneven < least or (is_equal and in_fold < fewest):
            best, least, fewest = fold, uneven, in_fold
    return best
