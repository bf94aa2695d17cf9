"""datasets.corrections: labels of recordings by what people agree on."""

import polars as pl
import pytest

from datasets.corrections import corrected_recordings

SCHEMA = {"recording_id": pl.String, "label": pl.String, "present": pl.Boolean}


def corrected(decisions, primary="owl", secondary=("jay",)):
    """Labels of the recording `a` after decisions; None where it is left out."""
    recordings = pl.DataFrame(
        {
            "recording_id": ["a", "b"],
            "primary_label": [primary, "tit"],
            "secondary_labels": [list(secondary), []],
            "rating": [1.0, 2.0],
        },
        schema_overrides={"primary_label": pl.String, "secondary_labels": pl.List(pl.String)},
    )
    rows = [("a", label, present) for label, present in decisions]
    found = corrected_recordings(recordings, pl.DataFrame(rows, SCHEMA, orient="row"))
    assert found["recording_id"].to_list()[-1] == "b"
    assert found.columns == recordings.columns
    first = found.row(0, named=True)
    if first["recording_id"] == "b":
        return None
    return first["primary_label"], first["secondary_labels"]


@pytest.mark.parametrize(
    ("decisions", "expected"),
    [
        ([], ("owl", ["jay"])),
        ([("owl", True)], ("owl", ["jay"])),
        ([("owl", False)], None),
        ([("owl", False), ("owl", True)], ("owl", ["jay"])),
        ([("owl", False), ("tit", True)], ("tit", ["jay"])),
        ([("owl", False), ("jay", True)], ("jay", [])),
        ([("owl", False), ("tit", True), ("rook", True), ("rook", True)], ("rook", ["jay", "tit"])),
        ([("tit", True)], ("owl", ["jay", "tit"])),
        ([("jay", False)], ("owl", [])),
        ([("jay", True)], ("owl", ["jay"])),
        ([("tit", False)], ("owl", ["jay"])),
    ],
    ids=str,
)
def test_labels_after_decisions(decisions, expected):
    assert corrected(decisions) == expected


def test_a_recording_without_a_label_gets_one_that_is_heard():
    assert corrected([("tit", True)], None, ()) == ("tit", [])
    assert corrected([("tit", False)], None, ()) == (None, [])
