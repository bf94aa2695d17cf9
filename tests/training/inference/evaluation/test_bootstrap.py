"""Scores with weights, and intervals over recordings."""

import math

import numpy as np

from training.inference.evaluation.bootstrap import (
    Scored,
    bootstrap_classes,
    interval,
    macro_interval,
    weighted_scores,
)
from training.model.metrics import average_precisions, roc_areas


def drawn(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores with ties."""
    generator = np.random.default_rng(seed)
    positive = generator.random(num) < 0.3
    return positive, np.round(generator.random(num) + 0.3 * positive, 1)


def test_weights_count_windows_as_often_as_repeated_ones() -> None:
    positive, scores = drawn(60, 1)
    weights = np.random.default_rng(2).integers(0, 4, (5, 60))
    areas, precisions = weighted_scores(positive, scores, weights)
    for draw, repeats in enumerate(weights):
        labels, values = (np.repeat(one, repeats)[:, None] for one in (positive, scores))
        np.testing.assert_allclose(areas[draw], roc_areas(labels, values)[0])
        np.testing.assert_allclose(precisions[draw], average_precisions(labels, values)[0])


def test_a_draw_without_positives_has_no_score() -> None:
    positive, scores = np.array([True, False]), np.array([0.9, 0.1])
    areas, precisions = weighted_scores(positive, scores, np.array([[0, 3], [2, 0], [1, 1]]))
    np.testing.assert_array_equal(areas, [math.nan, math.nan, 1])
    np.testing.assert_array_equal(precisions, [math.nan, 1, 1])


def test_intervals_depend_on_the_seed_alone_and_hold_the_score() -> None:
    positive, scores = drawn(400, 3)
    recording_no = np.arange(400) // 10
    drawn_twice = [
        bootstrap_classes(
            Scored(
                np.stack([positive, np.zeros(400, bool)], 1),
                np.stack([scores, scores], 1),
                recording_no,
            ),
            num_draws=200,
            seed=4,
        )
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*(draws.roc_auc for draws in drawn_twice))
    assert np.isnan(drawn_twice[0].roc_auc[:, 1]).all()
    low, high = macro_interval(drawn_twice[0].roc_auc)
    assert low < roc_areas(positive[:, None], scores[:, None])[0] < high
    assert 0.03 < high - low < 0.15


def test_windows_that_are_alike_do_not_narrow_an_interval() -> None:
    positive, scores = drawn(40, 5)
    widths = []
    for repeats in (1, 20):
        draws = bootstrap_classes(
            Scored(
                np.repeat(positive, repeats)[:, None],
                np.repeat(scores, repeats)[:, None],
                np.repeat(np.arange(40), repeats),
            ),
            num_draws=100,
            seed=6,
        )
        low, high = macro_interval(draws.roc_auc)
        widths.append(high - low)
    np.testing.assert_allclose(*widths)


def test_without_draws_there_is_no_interval() -> None:
    assert all(map(math.isnan, interval(np.array([]))))
    draws = bootstrap_classes(
        Scored(np.ones((3, 1), bool), np.ones((3, 1)), np.zeros(3, np.int64)), num_draws=0, seed=0
    )
    assert all(map(math.isnan, macro_interval(draws.roc_auc)))
