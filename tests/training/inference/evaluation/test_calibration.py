"""Platt scaling of scores whose truth is known, and thresholds."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from storage.errors import ConfigError
from training.inference.evaluation.calibration import (
    CalibrationTable,
    fit_calibration,
    read_calibration,
    write_calibration,
)
from training.inference.evaluation.labelled import read_labelled
from training.inference.evaluation.platt import Platt, fit_platt, logits, sigmoid
from training.inference.evaluation.thresholds import (
    expected_calibration_error,
    find_thresholds,
)

TRUE = Platt(0.5, -1.0)  # of scores that are too sure
HEAD = "label,a,b,threshold_p90,threshold_p95,threshold_f1,n,n_positive\n"


def drawn(num: int, seed: int, truth: Platt = TRUE) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels, the latter with the probability that `truth` makes of a score."""
    generator = np.random.default_rng(seed)
    scores = sigmoid(generator.normal(0, 2.5, num))
    return scores, generator.random(num) < truth.apply(scores)


def test_the_parameters_that_made_the_labels_are_found() -> None:
    scores, positive = drawn(40_000, 1)
    found = fit_platt([(logits(scores), positive)], Platt(1, 0), 1.0)
    assert found == pytest.approx(TRUE, abs=0.05)


def test_calibration_lowers_the_expected_error() -> None:
    scores, positive = drawn(5000, 2)
    table = fit_calibration(scores[:, None], positive[:, None], ["robin"], shrinkage=20)
    others, truth = drawn(5000, 3)
    before = expected_calibration_error(others, truth)
    after = expected_calibration_error(table.apply(others[:, None]), truth)
    assert before > 0.15
    assert after < 0.03


def test_a_rare_class_keeps_close_to_the_pooled_fit() -> None:
    many, many_positive = drawn(4000, 5)
    odd, odd_positive = drawn(4000, 6, Platt(2.0, 1.0))
    few = np.full(4000, np.nan)
    few_positive = np.zeros(4000, bool)
    few[:6], few_positive[:6] = odd[:6], odd_positive[:6]
    scores = np.stack([many, odd, few], 1)
    positives = np.stack([many_positive, odd_positive, few_positive], 1)
    table = fit_calibration(scores, positives, ["many", "odd", "few"], shrinkage=20)
    pooled = fit_calibration(scores, positives, ["many", "odd", "few"], shrinkage=1e12).platt[0]
    assert table.platt[0] == pytest.approx(TRUE, abs=0.2)
    assert table.platt[1] == pytest.approx((2, 1), abs=0.3)
    assert math.dist(table.platt[2], pooled) < 0.3 * math.dist(table.platt[1], pooled)
    assert table.num == (4000, 4000, 6)


def test_a_class_without_positives_has_the_pooled_fit_and_no_threshold(tmp_path: Path) -> None:
    scores, positive = drawn(500, 7)
    both = np.stack([scores, scores], 1)
    positives = np.stack([positive, np.zeros(500, bool)], 1)
    table = fit_calibration(both, positives, ["robin", "wren"], shrinkage=20)
    assert all(map(math.isnan, table.thresholds[1]))
    assert set(table.threshold_of("threshold_f1", calibrated=False)) == {"robin"}
    write_calibration(table, tmp_path / "c.csv")
    assert read_calibration(tmp_path / "c.csv").frame().equals(table.frame())
    chosen = table.frame("threshold_p90")
    assert chosen["threshold"].equals(chosen["threshold_p90"])
    with pytest.raises(ConfigError, match="needs a class with slices"):
        fit_calibration(both, np.zeros((500, 2), bool), ["robin", "wren"], shrinkage=20)


def test_separable_classes_end_in_finite_numbers() -> None:
    scores = np.array([[0.0], [1e-9], [1.0], [1.0]])
    table = fit_calibration(scores, scores > 0.5, ["robin"], shrinkage=1)
    assert all(map(math.isfinite, table.platt[0]))
    calibrated = table.apply(scores)[:, 0]
    assert calibrated[0] < 0.1 < 0.9 < calibrated[-1]


def test_thresholds_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.8, 0.6, 0.5, 0.4, 0.3])
    positive = np.array([True, True, True, True, False, True, False])
    found = find_thresholds(scores, positive)
    assert found == pytest.approx((0.6, 0.6, 0.4))
    assert find_thresholds(1 - scores, positive)[:2] == pytest.approx((math.nan,) * 2, nan_ok=True)


def test_thresholds_follow_the_scores_through_calibration() -> None:
    scores, positive = drawn(1000, 8)
    table = fit_calibration(scores[:, None], positive[:, None], ["robin"], shrinkage=20)
    raw = table.threshold_of("threshold_f1", calibrated=False)["robin"]
    after = table.threshold_of("threshold_f1", calibrated=True)["robin"]
    calibrated = table.apply(scores[:, None])[:, 0]
    np.testing.assert_array_equal(scores > raw + 1e-6, calibrated > after + 1e-7)


def test_classes_come_in_the_order_asked_for() -> None:
    scores, positive = drawn(500, 9)
    table = fit_calibration(
        np.stack([scores, 1 - scores], 1), np.stack([positive] * 2, 1), ["a", "b"], shrinkage=1
    )
    turned: CalibrationTable = table.of(["b", "a"])
    assert turned.platt == (table.platt[1], table.platt[0])
    with pytest.raises(ConfigError, match="lacks 1 of 2 classes: c"):
        table.of(["a", "c"])


def test_oof_tables_are_read_with_their_targets(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "recording_id": ["x", "y"],
            "target": [["b", "z"], []],
            "p_a": [0.1, 0.2],
            "p_b": [0.3, 1],
        },
        schema_overrides={"target": pl.List(pl.String)},
    )
    frame.write_parquet(tmp_path / "oof.parquet")
    found = read_labelled(tmp_path / "oof.parquet")
    assert found.labels == ("a", "b")
    assert found.positives_NC.tolist() == [[False, True], [False, False]]
    assert found.scores_NC.tolist() == [[0.1, 0.3], [0.2, 1]]
    assert found.recording_no_N.tolist() == [0, 1]
    frame.drop("target").write_parquet(tmp_path / "oof.parquet")
    with pytest.raises(ConfigError, match="needs rows with the columns target"):
        read_labelled(tmp_path / "oof.parquet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,threshold\na,0.5\n", "lacks the columns a, b"),
        (
            "label,a,b,threshold_p90,threshold_p95,threshold_f1,n,n_positive\nx,,0,,,,1,1\n",
            "damaged",
        ),
        (
            "label,a,b,threshold_p90,threshold_p95,threshold_f1,n,n_positive\nx,a,0,,,,1,1\n",
            "damaged",
        ),
    ],
)
def test_other_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_calibration(tmp_path / "c.csv")
