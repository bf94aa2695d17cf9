"""SQL from the user, held to the tables that it was given.

Polars' SQL has table functions that read files (`read_parquet('/...')`). A query is parsed first:
it must be one SELECT (WITH, UNION and sub-queries included) whose every table is one of ours or
one that it defines itself.
"""

import logging
import re
from collections.abc import Mapping

import polars as pl
import sqlglot
from sqlglot import exp

from storage.errors import ConfigError

# Polars and the parser may read odd quoting differently, so these names are refused anywhere.
_FILE_FUNCTION = re.compile(r"\b(read|scan)_\w+", re.IGNORECASE)


def select(sql: str, tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    """Runs one SELECT over `tables`, lazily; raises ConfigError on anything else."""
    check_select(sql, tables)
    try:
        result = pl.SQLContext(dict(tables)).execute(sql)
        result.collect_schema()
        return result
    except pl.exceptions.PolarsError as error:
        columns = {name for table in tables.values() for name in table.collect_schema()}
        raise ConfigError(
            f"the query does not work: {str(error).splitlines()[0]}. "
            f"The columns are {', '.join(sorted(columns))}"
        ) from error


def check_select(sql: str, tables: Mapping[str, object]) -> None:
    """Raises ConfigError unless `sql` is one SELECT over the named tables."""
    logging.getLogger("sqlglot").setLevel(logging.ERROR)  # its warnings are our errors below
    try:
        statements = sqlglot.parse(sql, dialect="postgres")
    except sqlglot.errors.SqlglotError as error:
        raise ConfigError(f"the query is not SQL: {str(error).splitlines()[0]}") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise ConfigError("a query is one SELECT; nothing else is run")
    query = statements[0]
    known = set(tables) | {cte.alias_or_name for cte in query.find_all(exp.CTE)}
    for table in query.find_all(exp.Table):
        plain = isinstance(table.this, exp.Identifier) and not table.db and not table.catalog
        if not plain or table.name not in known:
            raise ConfigError(
                f"a query reads only {' and '.join(sorted(tables))}, not {table.sql()}"
            )
    if function := _FILE_FUNCTION.search(sql):
        raise ConfigError(
            f"a query reads only {' and '.join(sorted(tables))}; {function[0]} is refused"
        )
