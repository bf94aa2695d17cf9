"""datasets.corrections: verdicts on slices by time, new labels of recordings, and train.csv."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.corrections import (
    corrected_recordings,
    corrected_train_csv,
    judge,
    label_changes,
    read_train_csv,
)
from storage.errors import ConfigError

DECIDED = {
    "recording_id": pl.String,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "row": pl.Int64,
    "label": pl.String,
    "present": pl.Boolean,
}


def decided(*rows: tuple[str, float, float, str, bool]) -> pl.DataFrame:
    full = [(name, start, end, None, label, there) for name, start, end, label, there in rows]
    return pl.DataFrame(full, schema=DECIDED, orient="row")


def recordings(**duration_s: float) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "recording_id": list(duration_s),
            "filename": [f"owl/{name}.ogg" for name in duration_s],
            "primary_label": ["owl"] * len(duration_s),
            "duration_s": list(duration_s.values()),
        }
    )


def cells(*rows: tuple[str, float, float, str, bool], starts: tuple[float, ...]) -> list[str]:
    """The labels of each slice of 5 s, with their signs."""
    start_K = np.asarray(starts)
    judged = judge(start_K, start_K + 5, decided(*rows))
    found = []
    for present, absent in zip(judged.present_KL, judged.absent_KL, strict=True):
        signs = zip(judged.labels, present, absent, strict=True)
        found.append(" ".join(f"{'+-'[bool(no)]}{name}" for name, yes, no in signs if yes or no))
    return found


def test_a_label_that_is_there_needs_half_of_the_shorter_and_one_that_is_not_half_of_the_slice():
    assert cells(("a", 0, 1, "owl", True), starts=(0, 2.5)) == ["+owl", ""]
    assert cells(("a", 0, 1, "owl", False), starts=(0, 2.5)) == ["", ""]
    assert cells(("a", 0, 2.5, "owl", False), starts=(0, 2.5)) == ["-owl", ""]
    assert cells(("a", 0, 60, "owl", False), starts=(0, 20)) == ["-owl", "-owl"]


def test_where_both_hold_the_label_is_there():
    rows = (("a", 0.0, 5.0, "owl", False), ("a", 2.5, 7.5, "owl", True))
    assert cells(*rows, starts=(0, 5)) == ["+owl", "+owl"]


SPAN = st.tuples(
    st.integers(0, 100), st.integers(1, 80), st.sampled_from(["owl", "tit"]), st.booleans()
)


@settings(max_examples=30, deadline=None)
@given(st.lists(SPAN, min_size=1, max_size=6))
def test_judged_slices_are_those_of_a_plain_loop_over_tenths(spans):
    starts = list(range(0, 100, 25))
    expected = []
    for start in starts:
        inside, signs = set(range(start, start + 50)), {}
        for begin, length, label, there in spans:
            shared = len(inside & set(range(begin, begin + length)))
            if shared and 2 * shared >= (min(50, length) if there else 50):
                signs[label] = signs.get(label, False) or there
        shown = (f"{'+' if there else '-'}{label}" for label, there in sorted(signs.items()))
        expected.append(" ".join(shown))
    rows = [("a", begin / 10, (begin + length) / 10, *more) for begin, length, *more in spans]
    assert cells(*rows, starts=tuple(start / 10 for start in starts)) == expected


@pytest.mark.parametrize(
    ("rows", "new"),
    [
        ([("a", 0.0, 5.0, "owl", False)], None),  # 5 of 12 s
        ([("a", 0.0, 6.0, "owl", False)], ("owl", None)),
        ([("a", 0.0, 5.0, "owl", False), ("a", 2.0, 7.0, "owl", False)], ("owl", None)),
        ([("a", 0.0, 5.0, "owl", False), ("a", 0.0, 5.5, "owl", False)], None),  # not their sum
        ([("a", 0.0, 9.0, "owl", False), ("a", 9.0, 12.0, "owl", True)], None),
        ([("a", 0.0, 12.0, "owl", False), ("a", 0.0, 5.0, "tit", True)], ("owl", "tit")),
        (
            [
                ("a", 0.0, 12.0, "owl", False),
                ("a", 0.0, 5.0, "tit", True),
                ("a", 5.0, 12.0, "wren", True),
            ],
            ("owl", "wren"),
        ),
        (
            [
                ("a", 0.0, 12.0, "owl", False),
                ("a", 5.0, 10.0, "ant", True),
                ("a", 0.0, 5.0, "tit", True),
            ],
            ("owl", "tit"),
        ),
        ([("a", 0.0, 12.0, "tit", True)], None),
        ([("b", 0.0, 12.0, "owl", False)], None),
        ([("a", 0.0, 100.0, "owl", False)], ("owl", None)),
    ],
)
def test_a_label_changes_where_half_of_the_recording_refuses_it(rows, new):
    changes = label_changes(decided(*rows), recordings(a=12.0))
    assert changes.select("primary_label", "corrected_label").rows() == ([new] if new else [])


def test_a_recording_without_a_label_or_a_duration_keeps_it():
    refused = decided(("a", 0.0, 12.0, "owl", False))
    table = recordings(a=12.0)
    assert label_changes(
        refused, table.with_columns(primary_label=pl.lit(None, pl.String))
    ).is_empty()
    assert label_changes(
        refused, table.with_columns(duration_s=pl.lit(None, pl.Float64))
    ).is_empty()


CSV = """\
filename;rating;primary_label;secondary_labels
owl/b.ogg;3,50;owl;['tit']
owl/a.ogg;;owl;
A.OGG;4;owl;
c.ogg;1;owl|tit;""
owl/a.ogg;;tit;
"""


def test_a_corrected_csv_keeps_all_other_cells_and_the_order_of_rows(tmp_path: Path):
    (tmp_path / "train.csv").write_text(CSV)
    table = read_train_csv(tmp_path / "train.csv")
    refused = decided(*((name, 0.0, 9.0, "owl", False) for name in "ac"), ("c", 0, 9, "wren", True))
    new = corrected_train_csv(table, refused, recordings(a=9.0, b=9.0, c=9.0))
    assert new.drop("primary_label").equals(table.drop("primary_label"))
    assert new["rating"].to_list() == ["3,50", "", "4", "1", ""]
    assert new["primary_label"].to_list() == ["owl", "", "owl", "wren;tit", "tit"]


def test_without_verdicts_the_csv_is_as_it_was(tmp_path: Path):
    (tmp_path / "train.csv").write_text(CSV)
    table = read_train_csv(tmp_path / "train.csv")
    assert corrected_train_csv(table, decided(), recordings(a=9.0)).equals(table)


def test_a_csv_of_other_recordings_is_refused(tmp_path: Path):
    (tmp_path / "train.csv").write_text("filename,primary_label\nx.ogg,owl\n")
    table = read_train_csv(tmp_path / "train.csv")
    with pytest.raises(ConfigError, match=r"1 recordings .* such as owl/a.ogg"):
        corrected_train_csv(table, decided(("a", 0, 9, "owl", False)), recordings(a=9.0))
    (tmp_path / "train.csv").write_text("name,label\nx.ogg,owl\n")
    with pytest.raises(ConfigError, match="filename and primary_label"):
        read_train_csv(tmp_path / "train.csv")
    with pytest.raises(ConfigError, match="No such file"):
        read_train_csv(tmp_path / "no.csv")


def test_corrected_recordings_have_new_labels_or_are_left_out():
    table = recordings(a=9.0, b=9.0, c=9.0)
    refused = decided(*((name, 0, 9, "owl", False) for name in "ac"), ("c", 0, 9, "wren", True))
    new = corrected_recordings(table, refused)
    assert new["recording_id"].to_list() == ["b", "c"]
    assert new["primary_label"].to_list() == ["owl", "wren"]
    assert new.drop("primary_label").equals(table[1:].drop("primary_label"))
    assert corrected_recordings(table, decided()).equals(table)
