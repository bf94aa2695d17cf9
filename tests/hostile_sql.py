"""SQL that wants what no query may have: conditions on slices, or whole statements."""

HOSTILE = (
    "1=1; DROP TABLE slices",
    "1=1 UNION SELECT row FROM read_parquet('/etc/passwd')",
    "row IN (SELECT * FROM read_csv('/etc/passwd'))",
    "SELECT row FROM scan_parquet('s3://bucket/x')",
    "SELECT row FROM '/etc/passwd'",
    "SELECT row FROM pg_catalog.pg_tables",
    "SELECT row FROM information_schema.tables",
    "SELECT row FROM main.slices",
    "INSERT INTO slices VALUES (1)",
    "UPDATE slices SET row = 1",
    "DELETE FROM slices",
    "COPY slices TO '/tmp/x'",
    "CREATE TABLE x AS SELECT * FROM slices",
    "ATTACH '/tmp/x'",
    "PRAGMA database_list",
    "SELECT 1 AS row; SELECT 2 AS row",
    "WITH RECURSIVE x AS (SELECT 1 AS row UNION ALL SELECT row + 1 FROM x) SELECT row FROM x",
    "SELECT a.row FROM slices a, slices b, slices c, slices d, slices e, slices f, slices g",
    "SELECT repeat('x', 1000000000) AS row FROM slices",
    "SELECT row FROM slices WHERE rpad('x', 1000000000, 'y') = ''",
    "row IN (SELECT unnest(generate_series(1, 100000000000)))",
    "(" * 3000 + "1=1" + ")" * 3000,
    " OR ".join(["row = 1"] * 900),
    "row = 1 --",
    "row /* ",
    "'",
    '"',
    "\x00",
    "row = 'x'",
    "nothing = 1",
    "SELECT 'a' AS row FROM slices",
    "SELECT recording_id FROM slices",
    "SELECT row * 99999999 AS row FROM slices",
    "SELECT -row AS row FROM slices",
    "SELECT NULL AS row FROM slices",
    "row IN (SELECT row FROM slices a JOIN slices b ON a.row <> b.row)",
)


def statement(sql: str) -> str:
    """The SQL as a statement: a condition becomes that of a SELECT."""
    first = sql.lstrip(" (").partition(" ")[0].upper()
    whole = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "COPY", "CREATE", "ATTACH", "PRAGMA")
    return sql if first in whole else f"SELECT row FROM slices WHERE {sql}"
