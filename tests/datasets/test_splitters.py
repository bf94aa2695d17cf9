"""datasets.splitters: folds are those of scikit-learn's splitters, whatever the table."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from datasets.splitters import (
    split_evenly,
    split_groups,
    split_stratified,
    split_stratified_groups,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def folds_of(splitter, strata, groups):
    folds = np.empty(len(strata), np.int64)
    for number, (_, held_out) in enumerate(splitter.split(strata, strata, groups)):
        folds[held_out] = number
    return folds.tolist()


@settings(max_examples=150, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 40)), min_size=6, max_size=120),
    num_folds=st.integers(2, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_folds_are_those_of_scikit_learn(pairs, num_folds, seed):
    strata, groups = (
        np.unique(values, return_inverse=True)[1] for values in zip(*pairs, strict=True)
    )
    assume(np.bincount(strata).max() >= num_folds <= groups.max() + 1)
    shuffled = {"n_splits": num_folds, "shuffle": True, "random_state": seed}
    for found, splitter in [
        (split_evenly(len(strata), num_folds, seed), KFold(**shuffled)),
        (split_stratified(strata, num_folds, seed), StratifiedKFold(**shuffled)),
        (split_groups(groups, num_folds), GroupKFold(num_folds)),
        (
            split_stratified_groups(strata, groups, num_folds, seed),
            StratifiedGroupKFold(**shuffled),
        ),
    ]:
        assert found.tolist() == folds_of(splitter, strata, groups)
