"""datasets.sampling.balance: exact resampling."""

import numpy as np
import pytest

from datasets.sampling.balance import balance_exponent, expected_draws, resample
from storage.errors import ConfigError

SIZES = (400, 90, 9, 1)
CLASSES = np.repeat(np.arange(4), SIZES)


def test_no_balance_leaves_the_draws_as_they_are():
    assert np.allclose(expected_draws(np.ones(500), CLASSES, 0.0), 1)


@pytest.mark.parametrize(
    ("exponent", "shares"),
    [(0.5, np.sqrt(SIZES) / np.sqrt(SIZES).sum()), (1.0, [0.25] * 4)],
    ids=["sqrt", "uniform"],
)
def test_classes_get_their_shares_and_recordings_within_are_equal(exponent, shares):
    expected = expected_draws(np.ones(500), CLASSES, exponent)
    assert np.allclose(np.bincount(CLASSES, expected) / 500, shares)
    assert all(np.ptp(expected[number == CLASSES]) < 1e-9 for number in range(4))


def test_weights_shift_draws_within_a_class_and_zero_means_never():
    mass = np.where(np.arange(500) % 2, 2.0, 0.0)
    mass[-1] = 0  # the only one of its class
    expected = expected_draws(mass, CLASSES, 1.0)
    assert np.all(expected[mass == 0] == 0)
    assert np.allclose(np.bincount(CLASSES, expected), [mass.sum() / 3] * 3 + [0])


def test_over_many_epochs_the_mean_is_the_expectation():
    generator = np.random.default_rng(0)
    classes = np.array([0, 0, 0, 1, 1, 2])
    expected = np.array([0.2, 0.2, 0.2, 1.3, 1.3, 2.8])
    rounds = [
        resample(expected, classes, generator.integers(0, 2**64, 6, np.uint64), 6)
        for _ in range(4000)
    ]
    assert np.allclose(np.mean(rounds, 0), expected, atol=0.03)


@pytest.mark.parametrize(
    ("given", "exponent"), [("none", 0), ("sqrt", 0.5), ("uniform", 1), ("0.7", 0.7)]
)
def test_a_balance_is_a_name_or_a_number(given, exponent):
    assert balance_exponent(given) == exponent


@pytest.mark.parametrize("given", ["square", "1.5", "-0.1", "nan", ""])
def test_another_balance_is_refused(given):
    with pytest.raises(ConfigError, match="balance"):
        balance_exponent(given)
