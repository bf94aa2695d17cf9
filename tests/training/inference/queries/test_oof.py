"""training.inference.queries: columns of predictions against a plain loop, and what is refused."""

import numpy as np
import polars as pl
import pytest

from storage.errors import ConfigError
from training.inference.queries.named import find_named
from training.inference.queries.oof import described

LABELS = ("owl", "robin", "wren")


def predictions(num=30, seed=0):
    generator = np.random.default_rng(seed)
    scores = generator.dirichlet(np.ones(3), num).astype(np.float32)
    targets = [[LABELS[no % 3], *LABELS[: no % 2]] for no in range(num)]
    targets = [list(dict.fromkeys(one)) for one in targets]
    columns = {f"p_{name}": scores[:, place] for place, name in enumerate(LABELS)}
    return pl.DataFrame({"row": range(num), "target": targets, **columns})


def test_the_columns_are_those_of_a_plain_loop():
    given = predictions()
    found = described(given.lazy(), "x").collect()
    assert found.columns[:2] == ["row", "target"]
    for row in found.iter_rows(named=True):
        scores = {name: row[f"p_{name}"] for name in LABELS}
        best = sorted(LABELS, key=lambda name: -scores[name])
        others = [name for name in best if name not in row["target"]]
        assert row["label"] == row["target"][0]
        assert (row["predicted"], row["score"]) == (best[0], pytest.approx(scores[best[0]]))
        assert row["label_score"] == pytest.approx(scores[row["label"]])
        assert row["loss"] == pytest.approx(-np.log(scores[row["label"]]), rel=1e-5)
        assert (row["other"], row["other_score"]) == (others[0], pytest.approx(scores[others[0]]))
        assert row["margin"] == pytest.approx(scores[best[0]] - scores[best[1]], abs=1e-6)
        entropy = -sum(one * np.log(one) for one in scores.values())
        assert row["entropy"] == pytest.approx(entropy, abs=1e-5)


def test_a_label_without_a_column_has_no_loss():
    given = predictions(3).with_columns(target=pl.Series([["crow"]] * 3))
    found = described(given.lazy(), "x").collect()
    assert found["loss"].null_count() == found["label_score"].null_count() == 3


def test_other_tables_and_other_names_are_refused():
    with pytest.raises(ConfigError, match="x has no out-of-fold predictions"):
        described(pl.LazyFrame({"row": [1]}), "x")
    with pytest.raises(ConfigError, match="there are labels, loudest"):
        find_named("quietest")
