"""Predictions of an experiment by arrays are those of the table `oof`, also where values lack."""

import numpy as np
import polars as pl
import pytest

from storage.errors import ConfigError
from training.inference.exploring.scores import OofScores
from training.inference.queries.oof import ADDED, described

SIZE, CLASSES = 300, 12


@pytest.fixture
def file(tmp_path):
    draw = np.random.default_rng(0)
    labels = [f"s{number}" for number in range(CLASSES)]
    scores = draw.random((SIZE, CLASSES)).astype(np.float32) ** 6
    scores[5], scores[6] = 0, 1  # ties
    targets = [
        [labels[first], *(["unknown", labels[4]][: number % 3])]
        for number, first in enumerate(draw.integers(CLASSES, size=SIZE))
    ]
    targets[9], targets[10] = ["unknown"], []
    columns = {f"p_{label}": scores[:, number] for number, label in enumerate(labels)}
    table = pl.DataFrame(
        {"row": range(SIZE), "fold": [0] * SIZE, "target": targets, **columns},
        schema_overrides={"target": pl.List(pl.String)},
    )
    path = tmp_path / "oof.parquet"
    table.write_parquet(path)
    return path


def test_both_ways_give_the_same(file):
    found = OofScores(file, np.arange(SIZE), "a file").columns
    expected = described(pl.scan_parquet(file), "a file").select(ADDED).collect()
    for name in ADDED:
        if expected[name].dtype.is_numeric():
            assert (found[name].is_null() == expected[name].is_null()).all()
            difference = (found[name] - expected[name]).abs().max()
            assert difference is None or difference < 1e-5
        else:
            assert found[name].to_list() == expected[name].to_list(), name


def test_slices_that_were_not_predicted_have_no_values(file):
    scores = OofScores(file, np.array([-1, 3, SIZE + 5]), "a file")
    assert scores.columns["loss"].is_null().to_list() == [True, False, True]
    assert np.isnan(scores.of_class("s1")).tolist() == [True, False, True]
    assert [len(scores.best(place)) for place in range(3)] == [0, 5, 0]
    with pytest.raises(ConfigError, match="no class"):
        scores.of_class("nobody")
    with pytest.raises(ConfigError, match="other slices"):
        OofScores(file, np.array([SIZE + 5]), "a file")
