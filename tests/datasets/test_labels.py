"""datasets.labels: class names and targets."""

import numpy as np
import polars as pl
import pytest

from datasets.labels import LabelConfig, Labels
from storage.errors import ConfigError


def table(primary, secondary):
    schema = {"primary_label": pl.String, "secondary_labels": pl.List(pl.String)}
    return pl.DataFrame({"primary_label": primary, "secondary_labels": secondary}, schema=schema)


RECORDINGS = table(
    ["wren", "owl", "wren", "tit"], [["owl"], ["bat", "", "tit"], [], ["tit", "owl"]]
)


def test_names_are_the_sorted_primary_labels_and_the_extra_ones():
    assert Labels.of(RECORDINGS).names == ("owl", "tit", "wren")
    assert Labels.of(RECORDINGS, extra=["emu", "owl"]).names == ("emu", "owl", "tit", "wren")


def test_primary_counts_one_secondary_its_weight_and_strangers_nothing():
    targets = Labels.of(RECORDINGS).targets(RECORDINGS, 0.25)
    assert targets.dtype == np.float32
    assert targets.tolist() == [[0.25, 0, 1], [1, 0.25, 0], [0, 0, 1], [0.25, 1, 0]]


def test_secondary_labels_that_are_masked_are_not_known():
    targets = Labels.of(RECORDINGS).targets(RECORDINGS, None)
    assert np.isnan(targets).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]]
    assert np.nan_to_num(targets).tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_without_secondary_weight_each_line_has_one_class():
    assert Labels.of(RECORDINGS).targets(RECORDINGS, 0).sum(1).tolist() == [1, 1, 1, 1]


def test_columns_follow_the_names_as_given():
    labels = Labels(("wren", "tit", "owl"))
    assert labels.targets(RECORDINGS, 0)[0].tolist() == [1, 0, 0]


def test_a_recording_without_a_label_has_no_target():
    unlabelled = table([None, "a"], [None, ["b"]])
    assert Labels(("a", "b")).targets(unlabelled, 1).tolist() == [[0, 0], [1, 1]]


def test_a_strange_primary_label_is_refused_by_name():
    with pytest.raises(ConfigError, match="tit"):
        Labels(("owl", "wren")).targets(RECORDINGS, 0.5)


@pytest.mark.parametrize("names", [(), ("a", "b", "a")], ids=["none", "twice"])
def test_names_must_be_some_and_differ(names):
    with pytest.raises(ConfigError):
        Labels(names)


@pytest.mark.parametrize("weight", [-0.1, 1.5])
def test_a_secondary_weight_lies_between_0_and_1(weight):
    with pytest.raises(ConfigError, match="secondary_weight"):
        Labels.of(RECORDINGS).targets(RECORDINGS, weight)


def test_classes_may_be_listed_in_any_order_and_without_recordings():
    chosen = Labels.chosen(LabelConfig(classes=["wren", "owl", "tit", "emu"]), RECORDINGS)
    assert chosen.names == ("wren", "owl", "tit", "emu")
    assert chosen.targets(RECORDINGS, 0)[:, 3].sum() == 0
    assert Labels.chosen(LabelConfig(), RECORDINGS, taxonomy=["emu"]) == Labels.of(RECORDINGS)
    taxonomy = Labels.chosen(LabelConfig(classes=["taxonomy"]), RECORDINGS, taxonomy=["emu", "owl"])
    assert taxonomy.names == ("emu", "owl", "tit", "wren")


def test_classes_of_a_taxonomy_that_are_left_out_are_named():
    labels = Labels.of(RECORDINGS)
    assert "2 classes of taxonomy.csv have no recording" in labels.note(["owl", "emu", "gnu"])
    assert "emu, gnu" in labels.note(["owl", "emu", "gnu"])
    assert labels.note(["owl"]) == ""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("taxonomy.csv", "primary_label;class_name\nwren;Aves\n owl ;Aves\n1139490.0;Insecta\n"),
        ("sample_submission.csv", "row_id,wren,owl,1139490\nsoundscape_5,0.1,0.2,0.3\n"),
        ("classes.txt", "wren\nowl\n\n1139490\n"),
    ],
)
def test_classes_come_from_files(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    config = LabelConfig(classes=[str(tmp_path / name)])
    assert Labels.chosen(config, RECORDINGS).names == ("wren", "owl", "1139490")


def test_a_file_without_classes_is_named(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    for name in ("x.csv", "none.csv"):
        with pytest.raises(ConfigError, match=name):
            Labels.chosen(LabelConfig(classes=[str(tmp_path / name)]), RECORDINGS)
