"""Splitters of cross validation, each the same as scikit-learn's of that name with a seed.

They are copies, checked against the originals by a test: `import sklearn` takes three seconds, and
folds must not change with its version, since experiments resume with the folds they began with.

Shapes: N samples, G groups, C classes, K folds.
"""

import numpy as np


def k_fold(num_samples: int, num_folds: int, seed: int) -> np.ndarray:
    """Returns the fold of each sample, int64 [N]: equally many in each, at random."""
    order = np.arange(num_samples)
    np.random.RandomState(seed).shuffle(order)
    folds = np.empty(num_samples, np.int64)
    for fold, members in enumerate(np.array_split(order, num_folds)):
        folds[members] = fold
    return folds


def stratified_k_fold(classes_N: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Returns the fold of each sample, int64 [N]: equally many of each class in each."""
    random = np.random.RandomState(seed)
    _, first_C, codes_N = np.unique(classes_N, return_index=True, return_inverse=True)
    codes_N = first_C.argsort().argsort()[codes_N]  # classes in the order in which they appear
    order_N = np.sort(codes_N)
    shares = [np.bincount(order_N[k::num_folds], minlength=len(first_C)) for k in range(num_folds)]
    folds_N = np.empty(len(classes_N), np.int64)
    for code, counts_K in enumerate(np.stack(shares, axis=1)):
        folds = np.arange(num_folds).repeat(counts_K)
        random.shuffle(folds)
        folds_N[codes_N == code] = folds
    return folds_N


def group_k_fold(groups_N: np.ndarray, num_folds: int) -> np.ndarray:
    """Returns the fold of each sample, int64 [N]: the largest group first into the lightest fold.

    Groups are numbered from 0.
    """
    size_G = np.bincount(groups_N)
    fold_G = np.empty(len(size_G), np.int64)
    load_K = np.zeros(num_folds)
    for group in size_G.argsort(kind="stable")[::-1]:
        fold_G[group] = load_K.argmin()
        load_K[fold_G[group]] += size_G[group]
    folds_N: np.ndarray = fold_G[groups_N]
    return folds_N


def stratified_group_k_fold(
    classes_N: np.ndarray, groups_N: np.ndarray, num_folds: int, seed: int
) -> np.ndarray:
    """Returns the fold of each sample, int64 [N]: whole groups, classes as even as these allow.

    Groups, numbered from 0, are taken in the order of their spread over classes; each goes where
    the shares of the classes are then most even.
    """
    _, codes_N, count_C = np.unique(classes_N, return_inverse=True, return_counts=True)
    num_groups = int(groups_N.max()) + 1
    counts_GC = np.zeros((num_groups, len(count_C)))
    np.add.at(counts_GC, (groups_N, codes_N), 1)
    order_G = np.arange(num_groups)
    np.random.RandomState(seed).shuffle(order_G)
    spread_G = counts_GC[order_G].std(axis=1)
    counts_KC = np.zeros((num_folds, len(count_C)))
    fold_G = np.empty(num_groups, np.int64)
    for group in order_G[np.argsort(-spread_G, kind="stable")]:
        fold_G[group] = _most_even(counts_KC, counts_GC[group], count_C)
        counts_KC[fold_G[group]] += counts_GC[group]
    folds_N: np.ndarray = fold_G[groups_N]
    return folds_N


def _most_even(counts_KC: np.ndarray, added_C: np.ndarray, count_C: np.ndarray) -> int:
    """The fold that a group is best added to; of about equal ones the one with fewer samples."""
    best, least, fewest = 0, np.inf, np.inf
    for fold in range(len(counts_KC)):
        counts_KC[fold] += added_C
        unevenness = float((counts_KC / count_C).std(axis=0).mean())
        counts_KC[fold] -= added_C
        num_samples = counts_KC[fold].sum()
        equal = abs(unevenness - least) <= 1e-8 + 1e-5 * least  # numpy's isclose
        if unevenness < least or (equal and num_samples < fewest):
            best, least, fewest = fold, unevenness, num_samples
    return best
