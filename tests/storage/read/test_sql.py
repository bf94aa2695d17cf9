"""SQL from the user reaches only the tables that it was given."""

from pathlib import Path

import polars as pl
import pytest

from storage.errors import ConfigError
from storage.read.sql import select

TABLES = {"slices": pl.LazyFrame({"row": [1, 2, 3], "primary_label": ["a", "b", "b"]})}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM slices WHERE row > 1 LIMIT 5",
        "SELECT primary_label, COUNT(*) AS n FROM slices GROUP BY primary_label ORDER BY n",
        "WITH late AS (SELECT * FROM slices WHERE row > 1) SELECT * FROM late",
        "SELECT * FROM slices UNION ALL SELECT * FROM slices",
        "SELECT * FROM slices WHERE row IN (SELECT MAX(row) FROM slices)",
        "SELECT * EXCLUDE (row) FROM slices;",
        "select s.row from slices s join slices t on s.row = t.row",
    ],
)
def test_selects_run(sql: str) -> None:
    assert len(select(sql, TABLES).collect())


REACHING = [
    "SELECT * FROM read_parquet('{file}')",
    "SELECT * FROM READ_PARQUET('{file}')",
    "SELECT * FROM \"read_parquet\"('{file}')",
    "SELECT * FROM read_csv/**/('{file}')",
    "SELECT * FROM read_json('{file}')",
    "SELECT * FROM read_ipc('{file}')",
    "SELECT * FROM read_ndjson('{file}')",
    "SELECT * FROM scan_parquet('{file}')",
    "SELECT * FROM slices, read_parquet('{file}')",
    "SELECT * FROM slices JOIN read_parquet('{file}') r ON TRUE",
    "WITH x AS (SELECT * FROM read_parquet('{file}')) SELECT * FROM x",
    "SELECT * FROM slices WHERE row IN (SELECT a FROM read_parquet('{file}'))",
    "SELECT (SELECT MAX(a) FROM read_parquet('{file}')) FROM slices",
    "SELECT * FROM slices UNION ALL SELECT * FROM read_parquet('{file}')",
    "SELECT * FROM '{file}'",
    'SELECT * FROM "{file}"',
    "SELECT E'\\' FROM read_parquet('{file}') --'",
    "COPY slices TO '{file}'",
    "CREATE TABLE x AS SELECT * FROM read_parquet('{file}')",
]


@pytest.mark.parametrize("sql", REACHING)
def test_files_are_out_of_reach(sql: str, tmp_path: Path) -> None:
    file = tmp_path / "secret.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(file)
    with pytest.raises(ConfigError):
        select(sql.replace("{file}", str(file)), TABLES)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DROP TABLE slices", "one SELECT"),
        ("SELECT 1; SELECT 2", "one SELECT"),
        ("SHOW TABLES", "one SELECT"),
        ("DELETE FROM slices", "one SELECT"),
        ("", "one SELECT"),
        ("SELECT * FROM recordings", "reads only slices"),
        ("SELECT * FROM other.slices", "reads only slices"),
        ("selec row", "."),
        ("SELECT label FROM slices", "columns are primary_label, row"),
    ],
)
def test_what_cannot_be_run_says_why(sql: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        select(sql, TABLES)
