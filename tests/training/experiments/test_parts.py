"""Scores of rare classes, taxa and sites, against scores of the same rows and columns by hand."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from tests.fakes import write_fake_source
from tests.training.short_training import config_in
from training.experiments.parts import PartFacts, describe_parts, score_parts
from training.experiments.report import Held
from training.fold_table import part_facts
from training.split import split_recordings

LABELS = ("frog", "owl", "toad", "wren")
ABOUT = PartFacts(
    taxa={
        "frog": {"class_name": "Amphibia", "scientific_name": "Rana temporaria"},
        "toad": {"class_name": "Amphibia", "scientific_name": "Bufo bufo"},
        "owl": {"class_name": "Aves", "scientific_name": "Strix aluco"},
        "wren": {"class_name": "Aves", "scientific_name": "Troglodytes"},
    },
    sites={f"r{number}": f"s{number % 2}" for number in range(38)},
    num_learned={"frog": 30.0, "owl": 9.5, "toad": 10.0},
    rare_below=10,
)


@pytest.fixture
def frame() -> pl.DataFrame:
    """Predictions of 40 recordings, some with two labels."""
    generator = np.random.default_rng(0)
    primary = generator.integers(0, 4, 40)
    values = generator.dirichlet(np.ones(4), 40) + np.eye(4)[primary] * 0.3
    values /= values.sum(1, keepdims=True)
    targets = [
        [LABELS[one], *([LABELS[(one + 1) % 4]] if number % 5 == 0 else [])]
        for number, one in enumerate(primary)
    ]
    columns = {f"p_{name}": values[:, place] for place, name in enumerate(LABELS)}
    return pl.DataFrame(
        {"recording_id": [f"r{number}" for number in range(40)], "target": targets, **columns}
    )


def line(table: pl.DataFrame, name: str) -> dict:
    return table.filter(name=name).row(0, named=True)


def test_a_taxon_has_the_scores_of_its_classes(frame):
    table = score_parts(frame, ABOUT, 0.5)
    assert table.filter(kind="class_name")["name"].to_list() == ["Amphibia", "Aves"]
    aves = line(table, "Aves")
    areas = []
    for name in ("owl", "wren"):
        positive = frame["target"].list.contains(name).to_numpy()
        areas.append(roc_auc_score(positive, frame[f"p_{name}"].to_numpy()))
    assert aves["roc_auc"] == pytest.approx(np.mean(areas))
    own = frame.filter(pl.col("target").list.first().is_in(["owl", "wren"]))
    places = own.select(f"p_{name}" for name in LABELS).to_numpy().argmax(1)
    primary = [LABELS.index(target[0]) for target in own["target"]]
    right = places == primary
    assert (aves["recordings"], aves["classes"]) == (len(own), 2)
    assert aves["accuracy"] == pytest.approx(right.mean())
    recalls = [right[np.array(primary) == place].mean() for place in (1, 3)]
    assert aves["balanced_accuracy"] == pytest.approx(np.mean(recalls))


def test_the_genus_is_the_first_word_of_two_in_the_scientific_name(frame):
    genera = score_parts(frame, ABOUT, 0.5).filter(kind="genus")["name"].to_list()
    assert genera == ["Bufo", "Rana", "Strix"]


def test_classes_below_the_limit_are_rare_and_those_never_learned_too(frame):
    table = score_parts(frame, ABOUT, 0.5).filter(kind="rare")
    assert table["name"].to_list() == ["rare, below 10", "not rare"]
    primary = frame["target"].list.first()
    counts = [primary.is_in(names).sum() for names in (["owl", "wren"], ["frog", "toad"])]
    assert table["recordings"].to_list() == counts


def test_a_site_has_the_scores_of_its_recordings(frame):
    table = score_parts(frame, ABOUT, 0.5)
    assert table.filter(kind="site")["name"].to_list() == ["s0", "s1"]
    part = frame[1:38:2]
    expected = Held.of(part, 0.5)
    scores = expected.truth.score(expected.probabilities_NC, np.arange(len(part)))
    found = line(table, "s1")
    assert found["recordings"] == len(part)
    for key, score in scores.items():
        assert found[key] == pytest.approx(score)
    primary = part["target"].list.first().to_list()
    predicted = [LABELS[place] for place in expected.probabilities_NC.argmax(1)]
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(primary, predicted))


def test_the_printed_lines_fit_and_name_what_they_leave_out(frame):
    sites = {f"r{number}": f"site_{number % 10}" for number in range(40)}
    about = PartFacts(taxa={}, sites=sites, num_learned={}, rare_below=0)
    text = describe_parts(score_parts(frame, about, 0.5))
    assert all(len(row) <= 80 for row in text.splitlines())
    assert "site: 10 parts, 4 shown, all in parts.csv" in text
    assert text.count("site site_") == 4
    nothing = PartFacts(taxa={}, sites={}, num_learned={}, rare_below=0)
    assert describe_parts(score_parts(frame, nothing, 0.5)) == ""


def test_facts_count_what_the_folds_learn_from(tmp_path):
    source = write_fake_source(tmp_path / "cells.raw", [1] * 12, seed=0)
    labels = ["wren"] * 9 + ["owl"] * 3
    table = source.table.with_columns(
        primary_label=pl.Series(labels),
        secondary_labels=pl.lit([], pl.List(pl.String)),
        fold=pl.Series([number % 3 for number in range(12)]),
        site=pl.Series(["a", None] * 6),
        class_name=pl.lit("Aves"),
    )
    object.__setattr__(source, "table", table)
    about = part_facts(split_recordings(source, config_in(tmp_path, train_folds=[0, 1])), 7)
    assert about.num_learned == {"owl": 2.0, "wren": 6.0}
    assert set(about.sites.values()) == {"a"}
    assert len(about.sites) == 6
    assert about.taxa["owl"]["class_name"] == "Aves"
