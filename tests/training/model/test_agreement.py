"""Rank correlations of models against scipy, and of one that lacks a class."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from training.model.agreement import rank_correlations


def test_it_is_the_mean_of_spearmans_over_classes():
    values = np.random.default_rng(0).random((3, 50, 4)).round(1)  # with ties
    found = rank_correlations(values)
    np.testing.assert_allclose(np.diag(found), 1)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        expected = [spearmanr(values[one, :, k], values[other, :, k]).statistic for k in range(4)]
        assert found[one, other] == found[other, one] == pytest.approx(np.mean(expected))


def test_scale_does_not_matter_and_opposites_are_minus_one():
    values = np.random.default_rng(1).random((20, 2))
    found = rank_correlations(np.stack([values, values**3, 1 - values]))
    np.testing.assert_allclose(found, [[1, 1, -1], [1, 1, -1], [-1, -1, 1]])


def test_classes_that_a_model_lacks_or_that_never_vary_do_not_count():
    values = np.random.default_rng(2).random((2, 20, 3))
    values[1, :, 0] = np.nan
    values[0, :, 1] = 0.5
    expected = spearmanr(values[0, :, 2], values[1, :, 2]).statistic
    assert rank_correlations(values)[0, 1] == pytest.approx(expected)
    values[0, :, 2] = 0.5
    assert np.isnan(rank_correlations(values)[0, 1])
