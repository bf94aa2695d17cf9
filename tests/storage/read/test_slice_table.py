"""The lazy table of slices and recordings is the join of the two."""

import numpy as np
import polars as pl
import pytest

from storage.read.slice_table import late_join
from storage.read.sql import select

NUM_SLICES, NUM_RECORDINGS = 500, 40


@pytest.fixture
def slices() -> pl.DataFrame:
    rng = np.random.default_rng(1)
    return pl.DataFrame(
        {
            "row": np.arange(NUM_SLICES) * 2,
            "no": np.sort(rng.integers(NUM_RECORDINGS, size=NUM_SLICES)),
            "max_db": rng.uniform(-60, 0, NUM_SLICES).astype(np.float32),
        }
    )


@pytest.fixture
def recordings() -> pl.DataFrame:
    rng = np.random.default_rng(2)
    labels = [f"spec{number}" for number in rng.integers(5, size=NUM_RECORDINGS).tolist()]
    return pl.DataFrame(
        {
            "primary_label": labels,
            "secondary_labels": [labels[: number % 3] for number in range(NUM_RECORDINGS)],
            "rating": [None if number % 7 == 0 else number / 2 for number in range(NUM_RECORDINGS)],
        }
    )


@pytest.fixture
def plain(slices: pl.DataFrame, recordings: pl.DataFrame) -> pl.DataFrame:
    """Join of the two by Polars itself."""
    numbered = recordings.with_row_index("no").cast({"no": pl.Int64})
    return slices.join(numbered, on="no", how="left", maintain_order="left").drop("no")


def test_all_of_it_is_the_join(slices, recordings, plain) -> None:
    table = late_join(slices, recordings, "no")
    assert table.collect_schema() == plain.schema
    assert table.collect().equals(plain)
    assert table.collect(engine="streaming").equals(plain)


@pytest.mark.parametrize(
    "condition",
    [
        pytest.param(pl.col("max_db") > -20, id="of-slices"),
        pytest.param(pl.col("primary_label") == "spec1", id="of-recordings"),
        pytest.param((pl.col("rating") > 5) & (pl.col("max_db") > -30), id="of-both"),
        pytest.param(pl.col("max_db") > pl.col("rating") - 40, id="across"),
        pytest.param(pl.col("rating").is_null(), id="nulls"),
        pytest.param((pl.col("rating") < 2) | (pl.col("rating") > 7), id="one-column-twice"),
        pytest.param(pl.col("max_db") == pl.col("max_db").max(), id="not-row-by-row"),
        pytest.param(pl.lit(False), id="nothing"),
    ],
)
def test_filters_find_what_they_find_in_the_join(slices, recordings, plain, condition) -> None:
    table = late_join(slices, recordings, "no")
    assert table.filter(condition).collect().equals(plain.filter(condition))
    assert table.filter(condition).head(3).collect().equals(plain.filter(condition).head(3))
    picked = ["rating", "row"]
    assert table.filter(condition).select(picked).collect().equals(plain.filter(condition)[picked])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT primary_label, COUNT(*) AS n FROM slices GROUP BY primary_label ORDER BY n, 1",
        "SELECT row, rating FROM slices WHERE rating >= 4 ORDER BY max_db DESC LIMIT 7",
        "SELECT a.row FROM slices a JOIN slices b ON a.row = b.row WHERE b.rating = 3 ORDER BY 1",
        "SELECT COUNT(*) AS n FROM slices",
    ],
    ids=["group", "order", "self-join", "count"],
)
def test_sql_sees_the_join(slices, recordings, plain, sql: str) -> None:
    found = select(sql, {"slices": late_join(slices, recordings, "no")}).collect()
    assert found.equals(select(sql, {"slices": plain.lazy()}).collect())


def test_a_name_on_both_sides_is_kept_twice(slices, recordings) -> None:
    both = recordings.with_columns(pl.lit(1.5).alias("max_db"))
    table = late_join(slices, both, "no").collect()
    assert table["max_db"].equals(slices["max_db"])
    assert table["max_db_right"].unique().to_list() == [1.5]


def test_an_empty_table_has_its_columns(slices, recordings, plain) -> None:
    table = late_join(slices.clear(), recordings, "no")
    assert table.collect().equals(plain.clear())
