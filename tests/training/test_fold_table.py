"""The table of classes and folds counts what training holds out."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from datasets.folds import FoldConfig
from datasets.sources.mix import MixedSource, SourceMix, SourceSpec
from tests.fakes import write_fake_source
from tests.training.short_training import config_in
from training.fold_table import (
    ALWAYS,
    NOT_HELD_OUT,
    ONE_FOLD,
    class_problems,
    problem_notes,
    tabulate_folds,
)
from training.split import split_recordings


@pytest.fixture
def source(tmp_path):
    """24 recordings of owl, wren and tit, in pairs of one site."""
    fake = write_fake_source(tmp_path / "cells.raw", [2] * 24, seed=0)
    return labelled(fake, [("owl", "wren", "wren", "tit")[number % 4] for number in range(24)])


def labelled(fake, labels, folds=None, secondary=None):
    """The source with such labels, and folds 0, 1, 2 in turn or as given."""
    count = len(labels)
    table = fake.table.with_columns(
        primary_label=pl.Series(labels),
        secondary_labels=pl.Series(secondary or [[]] * count, dtype=pl.List(pl.String)),
        fold=pl.Series(folds or [number % 3 for number in range(count)]),
        site=pl.Series([f"s{number // 2}" for number in range(count)]),
        common_name=pl.Series(labels).replace_strict({"owl": "Barn Owl"}, default=None),
    )
    return replace(fake, table=table)


def tabulate(source, tmp_path, group_by="site", **options):
    folds = FoldConfig(cv="column", group_by=group_by)
    config = config_in(tmp_path, folds=folds, **{"train_folds": [], **options})
    return tabulate_folds(split_recordings(source, config), config)


def test_each_cell_counts_recordings_and_groups(source, tmp_path):
    table = tabulate(source, tmp_path)
    assert (table.labels, table.folds) == (("owl", "tit", "wren"), (0, 1, 2))
    plain = source.table
    for place, label in enumerate([*table.labels, None]):
        for column, fold in enumerate([*table.folds, None]):
            found = plain.filter(
                pl.lit(True) if label is None else pl.col("primary_label") == label,
                pl.lit(True) if fold is None else pl.col("fold") == fold,
            )
            assert table.recordings[place, column] == len(found)
            assert table.groups[place, column] == found["site"].n_unique()
    assert table.problems == (None, None, None)
    assert table.notes[0] == "24 recordings in 12 groups"
    assert table.notes[1].startswith("12 groups (folds.group_by=site) are in more than one fold")


def test_groups_that_stay_together_are_no_matter(source, tmp_path):
    folds = FoldConfig(group_by="site", num_folds=3)
    config = config_in(tmp_path, folds=folds, train_folds=[])
    table = tabulate_folds(split_recordings(source, config), config)
    assert table.notes == ("24 recordings in 12 groups",)
    assert table.groups[:, :-1].sum(1).tolist() == table.groups[:, -1].tolist()


def test_the_frame_has_a_line_per_class_and_the_folds_as_columns(source, tmp_path):
    frame = tabulate(source, tmp_path).frame()
    assert frame.columns[:5] == ["primary_label", "common_name", "recordings", "groups", "problem"]
    assert frame.columns[5:7] == ["fold_0_recordings", "fold_0_groups"]
    assert frame["recordings"].to_list() == [6, 6, 12]
    assert frame["common_name"].to_list() == ["Barn Owl", None, None]
    assert frame.select(pl.sum_horizontal("^fold_.*_recordings$")).to_series().sum() == 24


@pytest.mark.parametrize("width", [1, 30, 80, 200])
def test_the_text_fits_and_shows_every_fold(source, tmp_path, width):
    table = tabulate(source, tmp_path)
    text = table.text(width)
    lines = text.splitlines()[2:]
    assert all(len(line) <= max(width, 25) for line in lines)
    heads = [line.split() for line in text.split("\n\n") for line in line.splitlines()[:1]][1:]
    assert [fold for head in heads for fold in head[1:]] == ["0", "1", "2"]
    assert {head[0] for head in heads} == {"all"}


def test_classes_that_cannot_be_scored_are_named(source, tmp_path):
    labels = ["owl"] * 10 + ["tit"] * 10 + ["lone"] * 2 + ["late"] * 2
    folds = [0, 1] * 10 + [0, 0] + [2, 2]
    secondary = [["common"]] * 24
    mixed = labelled(source, [*labels[:-1], "common"], folds, secondary)
    table = tabulate(mixed, tmp_path, train_folds=[0, 1])
    problems = dict(zip(table.labels, table.problems, strict=True))
    assert problems == {
        "owl": None,
        "tit": None,
        "lone": ONE_FOLD,
        "late": NOT_HELD_OUT,
        "common": ALWAYS,
    }
    notes = "\n".join(table.notes)
    assert (
        "1 of 5 classes cannot be scored, since train_folds holds none of theirs out: late" in notes
    )
    assert table.frame()["problem"].to_list() == [ALWAYS, NOT_HELD_OUT, ONE_FOLD, None, None]


def test_what_another_source_teaches_is_scored_in_one_fold_too(source, tmp_path):
    lone = labelled(source, ["owl"] * 11 + ["tit"] * 11 + ["lone"] * 2, [0, 1] * 11 + [1, 1])
    ids = pl.format("pool/{}", "recording_id").alias("recording_id")
    pool = replace(lone, table=lone.table.tail(2).with_columns(ids))
    mix = SourceMix([MixedSource(name="one", source=lone), MixedSource(name="two", source=pool)])
    specs = {"one": SourceSpec(store="x"), "two": SourceSpec(store="y", train_only=True)}
    table = tabulate(mix, tmp_path, sources=specs)
    assert table.problems == (None, None, None)
    assert table.recordings[-1, -1] == 24
    alone = tabulate(lone, tmp_path)
    assert alone.problems == (ONE_FOLD, None, None)


def test_many_classes_are_counted_beyond_the_first_ten():
    labels = [f"l{number}" for number in range(14)]
    (note,) = problem_notes(labels, [NOT_HELD_OUT] * 13 + [None])
    assert note.startswith("13 of 14 classes cannot be scored")
    assert note.endswith("l8, l9 and 3 more")


def test_a_class_of_soft_targets_alone_is_never_held_out(source, tmp_path):
    config = config_in(tmp_path, folds=FoldConfig(cv="column"), train_folds=[])
    split = split_recordings(source, config)
    truth = replace(split.truth, positives_RC=np.zeros_like(split.truth.positives_RC))
    assert class_problems(replace(split, truth=truth)) == (NOT_HELD_OUT,) * 3
