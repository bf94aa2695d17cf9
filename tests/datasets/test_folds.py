"""datasets.folds: groups stay together, labels spread evenly, columns are kept."""

import numpy as np
import polars as pl
import pytest

from datasets.folds import CV, FoldConfig, assign_folds, group_numbers
from storage.errors import ConfigError


def recordings(count, *, labels=4, takes=1, **columns):
    """`takes` neighbours share a url; labels go round by source."""
    source = np.arange(count) // takes
    return pl.DataFrame(
        {
            "recording_id": [f"r{number}" for number in range(count)],
            "primary_label": [f"l{number % labels}" for number in source],
            "url": [f"https://example.org/{number}" for number in source],
            **columns,
        }
    )


@pytest.mark.parametrize("cv", [cv for cv in CV if cv != "column"])
def test_every_recording_is_in_one_of_the_folds_and_a_seed_decides(cv):
    table = recordings(120, takes=2)
    folds = assign_folds(table, FoldConfig(cv=cv, num_folds=4), seed=1)
    assert folds.dtype == np.int64
    assert np.unique(folds).tolist() == [0, 1, 2, 3]
    assert np.bincount(folds).max() - np.bincount(folds).min() <= 4
    assert np.array_equal(folds, assign_folds(table, FoldConfig(cv=cv, num_folds=4), seed=1))
    assert not np.array_equal(folds, assign_folds(table, FoldConfig(cv=cv, num_folds=4), seed=2))


@pytest.mark.parametrize("cv", ["group", "stratified_group"])
def test_takes_of_one_source_never_straddle_folds(cv):
    table = recordings(90, takes=3)
    folds = assign_folds(table, FoldConfig(cv=cv, num_folds=3), seed=0)
    assert (
        table.with_columns(fold=folds)
        .group_by("url")
        .agg(pl.col("fold").n_unique())["fold"]
        .to_list()
        == [1] * 30
    )


@pytest.mark.parametrize("cv", ["stratified", "stratified_group"])
def test_each_label_is_spread_evenly(cv):
    table = recordings(200, labels=5, takes=2)
    folds = assign_folds(table, FoldConfig(cv=cv, num_folds=5), seed=0)
    counts = table.with_columns(fold=folds).group_by("primary_label", "fold").len()["len"]
    assert len(counts) == 25
    assert counts.min() >= 6
    assert counts.max() <= 10


def test_stratified_group_without_groups_is_stratified():
    table = recordings(60)
    grouped = assign_folds(table, FoldConfig(), seed=3)
    assert np.array_equal(grouped, assign_folds(table, FoldConfig(cv="stratified"), seed=3))


def with_rare_labels(rare):
    """40 recordings of one label, and some of a label each."""
    names = [f"rare{number}" for number in range(rare)]
    return recordings(40 + rare).with_columns(primary_label=pl.Series(["common"] * 40 + names))


@pytest.mark.parametrize("rare", [5, 14])
def test_rare_labels_together_are_spread_evenly(rare):
    counts = np.bincount(assign_folds(with_rare_labels(rare), FoldConfig(), seed=0)[40:])
    assert len(counts) == 5
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("rare", [1, 3])
def test_too_few_rare_labels_join_the_commonest(rare):
    counts = np.bincount(assign_folds(with_rare_labels(rare), FoldConfig(), seed=0))
    assert counts.tolist() == [9] * rare + [8] * (5 - rare)


def test_a_column_is_kept_as_given():
    table = recordings(6, fold=[1, 2, 5, 5, 2, 1])
    assert assign_folds(table, FoldConfig(cv="column"), seed=0).tolist() == [1, 2, 5, 5, 2, 1]
    text = table.with_columns(mine=pl.col("fold").cast(pl.String))
    folds = assign_folds(text, FoldConfig(cv="column", column="mine"), seed=0)
    assert folds.tolist() == [1, 2, 5, 5, 2, 1]


@pytest.mark.parametrize(
    "values", [[1, None], [1.0, 1.5], ["1", "x"]], ids=["null", "half", "text"]
)
def test_a_column_must_have_a_whole_number_for_each_recording(values):
    with pytest.raises(ConfigError, match="r1"):
        assign_folds(recordings(2, fold=values), FoldConfig(cv="column"), seed=0)


def test_groups_join_by_url_and_by_author_place_and_label():
    table = pl.DataFrame(
        {
            "primary_label": ["a", "a", "a", "b", "a", "a", "a"],
            "url": ["u1", "u1", "u2", "u3", None, "", "u2"],
            "author": ["x", "y", "x", "x", "x", None, "z"],
            "latitude": [1.5, 1.5, 1.5, 1.5, None, None, 9.0],
            "longitude": [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 9.0],
        }
    )
    # 0 and 1 share a url, 0 and 2 author, place and label, 2 and 6 a url; 3 has another label
    assert group_numbers(table, "auto").tolist() == [0, 0, 0, 1, 2, 3, 0]


def test_groups_may_be_any_column():
    table = recordings(4).with_columns(author=pl.Series(["x", "y", "x", None]))
    assert group_numbers(table, "author").tolist() == [0, 1, 0, 2]


def test_without_any_such_column_each_recording_is_its_own_group():
    assert group_numbers(recordings(4).drop("url"), "auto").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (FoldConfig(cv="column"), "fold"),
        (FoldConfig(group_by="nobody"), "nobody"),
        (FoldConfig(num_folds=9), "recordings"),
        (FoldConfig(cv="group", num_folds=5), "groups"),
    ],
    ids=["no column", "no group column", "few recordings", "few groups"],
)
def test_what_cannot_be_split_is_refused(config, said):
    with pytest.raises(ConfigError, match=said):
        assign_folds(recordings(8, takes=2), config, seed=0)


@pytest.mark.parametrize("wrong", [{"cv": "loo"}, {"num_folds": 1}])
def test_a_wrong_config_is_refused(wrong):
    with pytest.raises(ConfigError):
        FoldConfig(**wrong)


def test_the_folds_of_esc10_keep_takes_together(real_data):
    table = pl.read_csv(real_data("esc10") / "train.csv")
    folds = assign_folds(table, FoldConfig(cv="column"), seed=0)
    assert np.unique(folds).tolist() == [1, 2, 3, 4, 5]
    groups = group_numbers(table, "auto")
    assert groups.max() + 1 == table["url"].n_unique()
    ours = assign_folds(table, FoldConfig(), seed=0)
    straddling = table.with_columns(fold=ours).group_by("url").agg(pl.col("fold").n_unique())
    assert straddling["fold"].max() == 1
    assert np.bincount(ours).min() >= 72


@pytest.mark.parametrize("cv", [cv for cv in CV if cv != "column"])
@pytest.mark.parametrize("group_by", ["auto", "url"])
def test_copies_are_always_in_one_fold(cv, group_by):
    hashes = [f"hash {min(number, 59 - number)}" for number in range(60)]  # of pairs of copies
    table = recordings(60, content_hash=hashes)
    folds = assign_folds(table, FoldConfig(cv=cv, num_folds=3, group_by=group_by), seed=2)
    assert folds.tolist() == folds[::-1].tolist()
    assert np.unique(folds).tolist() == [0, 1, 2]


@pytest.mark.parametrize("missing", [None, "", "NaN", "NA", "N/A", "null", "None", "-", " nan "])
def test_places_that_are_not_given_join_nothing(missing):
    table = recordings(6).with_columns(
        url=pl.lit(missing, pl.String),
        author=pl.lit("a. nonymous"),
        latitude=pl.lit(missing, pl.String),
        longitude=pl.lit(missing, pl.String),
        primary_label=pl.lit("robin"),
    )
    assert group_numbers(table, "auto").tolist() == [0, 1, 2, 3, 4, 5]
    numbers = table.with_columns(latitude=pl.lit(float("nan")), longitude=pl.lit(float("nan")))
    assert group_numbers(numbers, "auto").tolist() == [0, 1, 2, 3, 4, 5]
    assert group_numbers(table, "latitude").tolist() == [0, 1, 2, 3, 4, 5]


def test_a_column_that_parts_equal_bytes_is_named(caplog: pytest.LogCaptureFixture) -> None:
    hashes = ["a", "a", "b", "b", None, None]
    recordings = pl.DataFrame(
        {"recording_id": list("uvwxyz"), "content_hash": hashes, "part": [0, 1, 0, 0, 0, 1]}
    )
    assign_folds(recordings, FoldConfig(cv="column", column="part"), seed=0)
    assert "puts 2 recordings of 1 contents" in caplog.text
