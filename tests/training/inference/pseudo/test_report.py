"""Targets of a pool: weights of recordings, counts, agreement with the round before."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from tests.training.inference.pseudo.test_transform import pool
from training.inference.pseudo.given import GivenTargets
from training.inference.pseudo.pool import recordings_frame, targets_frame
from training.inference.pseudo.report import rank_correlation, report_round

RECORDINGS = pl.DataFrame({"recording_id": ["a", "b", "c"]})
FOLDS = np.asarray([1, 0, 1])
VALUES = [[0.8, 0.5, 0.05], [0.3, 0.75, 0.1], [0.05, 0.02, 0.0]]


def test_the_weight_of_a_recording_is_the_sum_of_its_largest_targets() -> None:
    found = recordings_frame(pool(VALUES), RECORDINGS, FOLDS)
    assert found["recording_id"].to_list() == ["a", "b"]
    assert found["weight"].to_list() == pytest.approx([0.8 + 0.75 + 0.1, 0.07])
    assert found["top_label"].to_list() == ["tit", "tit"]
    assert found["num_slices"].to_list() == [2, 1]
    table = targets_frame(pool(VALUES), RECORDINGS, FOLDS)
    assert table.columns[:4] == ["recording_id", "slice_no", "fold", "weight"]
    assert table.columns[4:] == ["p_tit", "p_wren", "p_frog"]
    assert table["fold"].to_list() == [1, 1, 0]
    assert table["weight"].to_list() == pytest.approx([1.65, 1.65, 0.07])


def test_mass_and_counts_of_classes() -> None:
    report = report_round(pool(VALUES), 5)
    assert (report.num_recordings, report.num_slices, report.num_left_out) == (2, 3, 2)
    assert report.mass == pytest.approx(1.15 + 1.27 + 0.15)
    assert report.classes.select("label", "slices", "top", "recordings").rows() == [
        ("tit", 1, 2, 1),
        ("wren", 2, 1, 1),
        ("frog", 0, 0, 0),
    ]
    assert [row[0] for row in report.table()] == ["class", "wren", "tit", "frog"]


def given(values: list[list[float]], rows: list[int]) -> GivenTargets:
    return GivenTargets(
        names=("tit", "wren", "frog"),
        rows=np.asarray(rows),
        values=np.asarray(values, np.float32),
    )


def test_agreement_is_over_the_slices_of_both() -> None:
    before = given([[0.4, 0.5, 0.05], [0.1, 0.6, 0.1], [1, 1, 1]], [10, 11, 50])
    found = report_round(pool(VALUES), 3, before).agreement
    assert found is not None
    assert found.num_slices == 2
    assert found.top_1 == 0.5
    assert found.mass_change == pytest.approx((1.35 + 1.15) / (0.95 + 0.8) - 1)
    assert not found.says_stop(agreement=0.9, mass=1)
    same = report_round(pool(VALUES), 3, given(VALUES, [10, 11, 12])).agreement
    assert same is not None
    assert (same.top_1, same.mass_change) == (1, 0)
    assert same.rank_correlation == pytest.approx(1)
    assert same.says_stop(agreement=1, mass=0)
    none = report_round(pool(VALUES), 3, given(VALUES, [20, 21, 22])).agreement
    assert none is not None
    assert not none.says_stop(agreement=0, mass=1)


def test_rank_correlation_is_spearmans_mean_over_classes_that_vary() -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(0, 6, (40, 4)).astype(np.float32)
    other = one + rng.integers(0, 6, (40, 4)).astype(np.float32)
    other[:, 2] = 3
    expected = [spearmanr(one[:, at], other[:, at]).statistic for at in (0, 1, 3)]
    assert rank_correlation(one, other) == pytest.approx(float(np.mean(expected)))
    assert rank_correlation(one[:, 2:3], other[:, 2:3]) == 0
