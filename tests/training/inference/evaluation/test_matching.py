"""Annotations find their recordings and windows."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import ConfigError
from tests.training.inference.windows import CLASSES
from training.inference.evaluation.annotations import SCHEMA, Annotations
from training.inference.evaluation.matching import (
    match_annotations,
    match_files,
    window_targets,
)


def windows_of(*recordings: str, num: int = 3) -> pl.DataFrame:
    """Windows of 5 s, one after the other."""
    rows = [(name, 5.0 * at, 5.0 * at + 5) for name in recordings for at in range(num)]
    return pl.DataFrame(rows, schema=["recording_id", "start_s", "end_s"], orient="row")


def table_of(*rows: tuple[str, float | None, float | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def targets_of(
    *rows: tuple[float | None, float | None, str], least_s: float = 0.5
) -> list[list[str]]:
    table = table_of(*(("a", *row) for row in rows))
    return window_targets(windows_of("a"), table, least_s)[0]


@pytest.mark.parametrize(
    ("row", "positive"),
    [
        ((1, 2, "x"), [0]),
        ((4.5, 5.5, "x"), [0, 1]),
        ((4.4, 5.4, "x"), [0]),  # 0.4 s are less than half a second
        ((4.9, 5.2, "x"), [1]),  # half of 0.3 s is enough
        ((4.8, 5.2, "x"), [0, 1]),
        ((0, 15, "x"), [0, 1, 2]),
        ((None, None, "x"), [0, 1, 2]),
        ((5, 5, "x"), [1]),  # a moment
        ((20, 21, "x"), []),
        ((14.9, 16, "x"), []),
    ],
)
def test_the_rule_by_hand(row: tuple[float, float, str], positive: list[int]) -> None:
    found = targets_of(row)
    assert [at for at, labels in enumerate(found) if labels] == positive
    _, outside = window_targets(windows_of("a"), table_of(("a", *row)), 0.5)
    assert outside == (not positive)


def test_the_label_of_the_largest_overlap_comes_first() -> None:
    found = targets_of((0, 1, "x"), (0, 4, "y"), (2, 3, "x"), (6, 7, "x"))
    assert found == [["y", "x"], ["x"], []]


TIMES = st.tuples(st.integers(0, 160), st.integers(0, 60)).map(
    lambda pair: (pair[0] / 10, (pair[0] + pair[1]) / 10, "x")
)


@given(st.lists(TIMES, max_size=4), st.sampled_from([0.0, 0.5, 2.0]))
def test_the_rule_holds_for_all_times(rows: list[tuple[float, float, str]], least_s: float) -> None:
    expected = []
    for begin_s in (0, 5, 10):
        overlaps = [
            (min(begin_s + 5, end) - max(begin_s, start), end - start, start)
            for start, end, _ in rows
        ]
        expected.append(
            any(
                begin_s <= start < begin_s + 5
                if length == 0
                else overlap > 0 and overlap >= min(least_s, length / 2) - 1e-9
                for overlap, length, start in overlaps
            )
        )
    assert [bool(labels) for labels in targets_of(*rows, least_s=least_s)] == expected


def test_files_are_found_by_any_part_of_their_path() -> None:
    recordings = ["site/a", "site/b", "other/b", "C.D"]
    files = ["a.wav", "D:\\x\\site\\B.WAV", "b.ogg", "c.d", "z.wav", "x/site/a.flac"]
    assert match_files(files, recordings) == {
        "a.wav": "site/a",
        "D:\\x\\site\\B.WAV": "site/b",
        "c.d": "C.D",
        "x/site/a.flac": "site/a",
    }


def test_what_has_no_match_is_named_and_counted() -> None:
    table = table_of(
        ("a.wav", 0, 1, "Erithacus rubecula"),
        ("a.wav", 1, 2, "tit"),
        ("a.wav", 50, 51, "frog"),
        ("b.wav", None, None, None),
        ("d.wav", 0, 1, "ROBIN"),
    )
    annotations = Annotations(table=table, where="a.csv")
    matched = match_annotations(windows_of("a", "b", "c", num=1), annotations, CLASSES, 0.5)
    assert matched.windows["recording_id"].to_list() == ["a", "b"]
    assert matched.windows["target"].to_list() == [["robin"], []]
    assert matched.notes == (
        "1 of 3 files in a.csv have no predictions: d.wav",
        "1 of 3 recordings have no annotation and are left out: c",
        "labels in the annotations that are no class here: 1, tit (1)",
        "annotations in no window, after the last one or in a gap: 1",
    )
    with pytest.raises(ConfigError, match=r"none of the 3 files .* is among the 1 rec"):
        match_annotations(windows_of("e"), annotations, CLASSES, 0.5)


def test_labels_none_of_which_is_a_class_are_refused() -> None:
    table = table_of(("a.wav", 0, 1, "dodo"), ("a.wav", 1, 2, "tit"))
    annotations = Annotations(table=table, where="a.csv")
    with pytest.raises(ConfigError, match=r"none of the labels in a.csv is a class .*: dodo, tit"):
        match_annotations(windows_of("a"), annotations, CLASSES, 0.5)
