"""`limit` takes each class first, the same recordings everywhere, and more for a larger limit."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.slice_source import select_recordings
from storage.errors import ConfigError
from storage.source.subset import limited

COUNTS = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def recordings(counts: list[int]) -> pl.DataFrame:
    labels = [f"class {number}" for number, count in enumerate(counts) for _ in range(count)]
    ids = [f"{label}/{place}" for place, label in enumerate(labels)]
    return pl.DataFrame({"recording_id": ids, "primary_label": labels})


@given(counts=COUNTS, limit=st.integers(1, 50))
def test_no_class_has_two_more_than_another_that_has_some_left(counts, limit: int) -> None:
    table = recordings(counts)
    chosen = table[limited(table, limit)]
    assert len(chosen) == min(limit, len(table))
    assert chosen["recording_id"].is_sorted() or len(table) > 9
    taken = dict(chosen.group_by("primary_label").len().iter_rows())
    took = [taken.get(f"class {number}", 0) for number in range(len(counts))]
    least = min((n for n, count in zip(took, counts, strict=True) if n < count), default=None)
    assert least is None or max(took) <= least + 1


@given(counts=COUNTS, limit=st.integers(1, 50))
def test_limits_are_nested_and_the_same_for_stores_and_shards(counts, limit: int) -> None:
    table = recordings(counts)
    smaller, larger = set(limited(table, limit).tolist()), set(limited(table, limit + 1).tolist())
    assert smaller <= larger
    assert select_recordings(table, limit=limit).equals(table[sorted(smaller)])
    upside_down = table[::-1]
    again = upside_down[limited(upside_down, limit)]
    assert set(again["recording_id"]) == set(table[sorted(smaller)]["recording_id"])


def test_recordings_without_a_label_are_one_class() -> None:
    table = recordings([5, 5]).with_columns(
        pl.when(pl.col("primary_label") == "class 0").then("primary_label")
    )
    assert table[limited(table, 4)]["primary_label"].null_count() == 2


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        limited(recordings([2]), 0)
