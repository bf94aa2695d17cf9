"""datasets.splitters: exactly scikit-learn's splits, for any sizes and seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from datasets.splitters import group_k_fold, k_fold, stratified_group_k_fold, stratified_k_fold

SEEDS = st.integers(0, 2**32 - 1)


def folds_of(splitter, classes, groups=None) -> list[int]:
    """The fold of each sample, by a splitter of scikit-learn."""
    folds = np.full(len(classes), -1)
    for number, (_, held_out) in enumerate(splitter.split(classes, classes, groups)):
        folds[held_out] = number
    return folds.tolist()


@st.composite
def tables(draw) -> tuple[np.ndarray, np.ndarray, int]:
    """Classes with at least as many samples as folds, in any order; groups from 0; folds."""
    num_folds = draw(st.integers(2, 5))
    sizes = draw(st.lists(st.integers(num_folds, 25), min_size=1, max_size=6))
    classes = draw(st.permutations(np.repeat(np.arange(len(sizes)), sizes).tolist()))
    num_groups = draw(st.integers(num_folds, len(classes)))
    numbers = st.lists(st.integers(0, num_groups - 1), min_size=len(classes), max_size=len(classes))
    groups = np.array(draw(numbers))
    groups[:num_groups] = np.arange(num_groups)  # each is there
    return np.array(classes), groups, num_folds


@given(num_samples=st.integers(5, 200), num_folds=st.integers(2, 5), seed=SEEDS)
def test_equal_folds_at_random(num_samples: int, num_folds: int, seed: int) -> None:
    theirs = KFold(num_folds, shuffle=True, random_state=seed)
    assert k_fold(num_samples, num_folds, seed).tolist() == folds_of(theirs, np.ones(num_samples))


@given(table=tables(), seed=SEEDS)
def test_stratified_with_and_without_groups(
    table: tuple[np.ndarray, np.ndarray, int], seed: int
) -> None:
    classes, groups, num_folds = table
    plain = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    assert stratified_k_fold(classes, num_folds, seed).tolist() == folds_of(plain, classes)
    whole = group_k_fold(groups, num_folds).tolist()
    assert whole == folds_of(GroupKFold(num_folds), classes, groups)
    both = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    ours = stratified_group_k_fold(classes, groups, num_folds, seed)
    assert ours.tolist() == folds_of(both, classes, groups)


@pytest.mark.parametrize("seed", [0, 1])
def test_many_groups_of_many_classes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, groups = rng.integers(0, 40, 3000), rng.integers(0, 700, 3000)
    groups[:700] = np.arange(700)
    theirs = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    ours = stratified_group_k_fold(classes, groups, 5, seed)
    assert ours.tolist() == folds_of(theirs, classes, groups)
