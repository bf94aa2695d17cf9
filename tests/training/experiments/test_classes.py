"""Scores of each class are those of scikit-learn, and agree with the scores of all together."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from training.experiments.classes import (
    class_names,
    describe_classes,
    score_classes,
    shown_names,
)
from training.experiments.report import score_frame

NAMES = ["a", "b", "c", "d", "nobody"]


def oof(num: int = 60, seed: int = 0) -> pl.DataFrame:
    """Predictions of recordings with one or two labels each; `nobody` is the label of none."""
    generator = np.random.default_rng(seed)
    primary = generator.integers(0, 4, num)
    second = generator.integers(0, 4, num)
    values = generator.random((num, 5)) + 0.7 * np.eye(5)[primary]
    targets = [
        [NAMES[one]] if one == two or two == 3 else [NAMES[one], NAMES[two]]
        for one, two in zip(primary, second, strict=True)
    ]
    columns = {f"p_{name}": values[:, place] for place, name in enumerate(NAMES)}
    return pl.DataFrame({"target": targets, **columns})


def test_each_class_has_the_scores_of_scikit_learn() -> None:
    frame = oof()
    table = score_classes(frame, {})
    probabilities = frame.select(pl.col("^p_.*$")).to_numpy()
    primary = frame["target"].list.first().to_numpy()
    predicted = np.array(NAMES)[probabilities.argmax(1)]
    for place, name in enumerate(NAMES[:4]):
        row = table.row(place, named=True)
        positive = frame["target"].list.contains(name).to_numpy()
        assert (row["label"], row["n"]) == (name, int((primary == name).sum()))
        assert row["n_any"] == int(positive.sum())
        assert row["roc_auc"] == pytest.approx(roc_auc_score(positive, probabilities[:, place]))
        expected = average_precision_score(positive, probabilities[:, place])
        assert row["average_precision"] == pytest.approx(expected)
        assert row["f1"] == pytest.approx(f1_score(primary == name, predicted == name))
    assert table.row(4)[2:] == (0, 0, None, None, None, None, 0)


@given(st.integers(0, 10**6), st.integers(2, 80))
def test_their_means_are_the_scores_of_all_together(seed: int, num: int) -> None:
    frame = oof(num, seed)
    frame = frame.with_columns(pl.col("^p_.*$") / pl.sum_horizontal(pl.col("^p_.*$")))
    table, scores = score_classes(frame, {}), score_frame(frame, 0.5)
    for column, key in (("roc_auc", "roc_auc"), ("average_precision", "cmap")):
        mean = table[column].mean()
        assert scores[key] == pytest.approx(np.nan if mean is None else mean, nan_ok=True)
    right = table.select((pl.col("n") - pl.col("n_confused")).sum()).item()
    assert right >= scores["accuracy"] * num - 1e-6  # one confusion of each class at most is named


def test_the_most_frequent_confusion_is_named() -> None:
    frame = pl.DataFrame(
        {
            "target": [["a"]] * 5 + [["b"]] * 2 + [["c"]],
            "p_a": [0.9, 0.1, 0.1, 0.1, 0.1, 0.0, 0.9, 0.1],
            "p_b": [0.0, 0.6, 0.6, 0.0, 0.6, 0.9, 0.1, 0.2],
            "p_c": [0.0, 0.0, 0.0, 0.8, 0.0, 0.0, 0.0, 0.7],
        }
    )
    table = score_classes(frame, {"b": "Blackbird"})
    assert table["confused_with"].to_list() == ["b", "a", None]
    assert table["n_confused"].to_list() == [3, 1, 0]
    assert table["common_name"].to_list() == [None, "Blackbird", None]
    text = describe_classes(table)
    assert "Blackbird (3)" in text
    assert ["c", "1", "0.857", "0.500", "0.667"] in [line.split() for line in text.splitlines()]


def many(num: int) -> pl.DataFrame:
    """`num` classes, each better than the one before, and one without a recording."""
    count = num + 1
    return pl.DataFrame(
        {
            "label": [f"label{place}" for place in range(count)],
            "common_name": [f"Bird of a very long name, number {place}" for place in range(count)],
            "n": [1234] * num + [0],
            "n_any": [2000] * num + [0],
            "roc_auc": [0.5] * num + [None],
            "average_precision": [*np.arange(num) / num, None],
            "f1": [0.5] * num + [None],
            "confused_with": ["label0"] * num + [None],
            "n_confused": [321] * num + [0],
        }
    )


@pytest.mark.parametrize(("num", "shown"), [(0, 0), (1, 1), (10, 10), (13, 13), (20, 20), (50, 20)])
def test_the_ten_best_and_the_ten_worst_are_shown_once(num: int, shown: int) -> None:
    text = describe_classes(many(num))
    lines = [line for line in text.splitlines() if "1234" in line]
    assert len(lines) == shown
    assert len(set(lines)) == shown or num > 0
    assert all(len(line) <= 80 for line in text.splitlines())
    assert text.endswith(f"without a held-out recording: 1, label{num}")
    assert f"scores of {num} classes" in text


def test_names_are_those_of_the_recordings() -> None:
    recordings = pl.DataFrame(
        {
            "primary_label": ["a", None, "b", "a", "c"],
            "common_name": ["Owl", "Nobody", "Wren", "Other", None],
        }
    )
    assert class_names(recordings) == {"a": "Owl", "b": "Wren"}
    assert class_names(recordings.drop("common_name")) == {}
    assert shown_names(list("abcdefghijkl")) == "a, b, c, d, e, f, g, h, i, j and 2 more"
