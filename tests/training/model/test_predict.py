"""training.model.predict: one prediction of a recording from those of its slices."""

import numpy as np
import polars as pl
import pytest
from scipy.special import softmax
from scipy.stats import gmean

from training.model.predict import Predictions, pool_recordings

COUNTS = (1, 4, 2)  # slices of recordings 7, 3 and 5, which stand in another order


def predictions_of(probabilities, seed=0):
    generator = np.random.default_rng(seed)
    order = generator.permutation(sum(COUNTS))
    number = np.repeat([7, 3, 5], COUNTS)[order]
    embeddings = generator.normal(size=(len(number), 3)).astype(np.float32)
    return Predictions(10 * order, number, probabilities.astype(np.float32), embeddings)


def some_logits(seed=1, classes=4):
    return 5 * np.random.default_rng(seed).normal(size=(sum(COUNTS), classes))


def means_of(predictions, values):
    """By Polars: one row per recording, in the order of their numbers."""
    frame = pl.DataFrame(values.astype(np.float64)).with_columns(
        number=pl.Series(predictions.recording_no)
    )
    means = frame.group_by("number").agg(pl.all().mean()).sort("number")
    return means.drop("number").to_numpy()


def test_means_are_of_the_slices_of_each_recording():
    slices = predictions_of(softmax(some_logits(), axis=1))
    found = pool_recordings(slices)
    np.testing.assert_array_equal(found.recording_no, [3, 5, 7])
    np.testing.assert_allclose(
        found.probabilities, means_of(slices, slices.probabilities), rtol=1e-6
    )
    np.testing.assert_allclose(
        found.embeddings, means_of(slices, slices.embeddings), rtol=1e-5, atol=1e-6
    )


def test_geometric_is_the_softmax_of_the_mean_logits():
    logits = some_logits()
    slices = predictions_of(softmax(logits, axis=1))
    found = pool_recordings(slices, "geometric", output="softmax")
    wanted = softmax(means_of(slices, logits), axis=1)
    np.testing.assert_allclose(found.probabilities, wanted, rtol=1e-5)
    plain = pool_recordings(slices)
    np.testing.assert_array_equal(found.embeddings, plain.embeddings)
    np.testing.assert_array_equal(found.rows, plain.rows)
    assert found.probabilities.dtype == np.float32


def test_geometric_of_a_sigmoid_is_the_geometric_mean_of_each_class():
    slices = predictions_of(np.random.default_rng(3).uniform(size=(sum(COUNTS), 5)))
    found = pool_recordings(slices, "geometric", output="sigmoid")
    for place, number in enumerate(found.recording_no):
        wanted = gmean(slices.probabilities[slices.recording_no == number], axis=0)
        np.testing.assert_allclose(found.probabilities[place], wanted, rtol=1e-5)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_one_slice_stays_as_it_is_and_zeros_are_no_trouble(output):
    probabilities = np.zeros((sum(COUNTS), 3))
    probabilities[:, 1] = 1
    slices = predictions_of(probabilities)
    found = pool_recordings(slices, "geometric", output=output).probabilities
    np.testing.assert_allclose(found, np.tile([0, 1, 0], (3, 1)), atol=1e-20)


def test_a_slice_that_rules_a_class_out_counts_for_more_than_in_the_mean():
    """Of two slices one is sure of the first class, the other that it is not there."""
    slices = predictions_of(np.full((sum(COUNTS), 3), 1 / 3))
    probabilities = slices.probabilities.copy()
    probabilities[slices.recording_no == 5] = [[0.9, 0.04, 0.06], [0.001, 0.4, 0.599]]
    changed = slices._replace(probabilities=probabilities)
    assert pool_recordings(changed, "mean").probabilities[1].argmax() == 0
    assert pool_recordings(changed, "geometric").probabilities[1].argmax() == 2


@pytest.mark.parametrize("pool", ["mean", "geometric"])
def test_weights_of_slices(pool):
    slices = predictions_of(softmax(some_logits(), axis=1))
    weights = np.random.default_rng(5).uniform(0.1, 3, len(slices.rows))
    found = pool_recordings(slices, pool, output="softmax", weights=weights)
    for place, number in enumerate(found.recording_no):
        of_it = slices.recording_no == number
        values, weight = slices.probabilities[of_it], weights[of_it]
        wanted = np.average(values, axis=0, weights=weight)
        if pool == "geometric":
            wanted = gmean(values, axis=0, weights=np.broadcast_to(weight[:, None], values.shape))
            wanted /= wanted.sum()
        np.testing.assert_allclose(found.probabilities[place], wanted, rtol=1e-5)
        embedding = np.average(slices.embeddings[of_it], axis=0, weights=weight)
        np.testing.assert_allclose(found.embeddings[place], embedding, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pool", ["mean", "geometric"])
def test_equal_weights_are_none(pool):
    slices = predictions_of(softmax(some_logits(), axis=1))
    found = pool_recordings(slices, pool, weights=np.full(len(slices.rows), 0.25))
    plain = pool_recordings(slices, pool)
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_array_equal(one, other)
