"""SQL from the user, held to the tables that it was given, and to bounds.

Polars' SQL has table functions that read files (`read_parquet('/...')`). A query is parsed first:
it must be one SELECT (WITH, UNION and sub-queries included) whose every table is one of ours or
one that it defines itself.

Polars takes the cube of the number of terms in a row (1,000 ORs: 4 s), and as long as it likes for
tables that double with each WITH. So length, depth and number of tables are bounded when a query
is parsed, with what `sql_bounds` can tell of its result; `collect` bounds its time and memory.
"""

import difflib
import logging
import re
import threading
from collections.abc import Iterable, Mapping

import polars as pl
import sqlglot
from sqlglot import exp

from storage.errors import ConfigError
from storage.read.sql_bounds import MAX_BYTES, check_joins, check_sizes, watch

MAX_LENGTH = 100_000  # characters: some 15,000 numbers in one IN (...)
MAX_DEPTH = 200  # terms in a row, or parts within parts
MAX_TABLES = 100  # named in a query
MAX_OF_WITH = 24  # of these, tables of WITH, which are put in where they are named: 3 ** 8 at most
MAX_S = 60.0  # of running one query

# Polars and the parser may read odd quoting differently, so these names are refused anywhere.
_FILE_FUNCTION = re.compile(r"\b(read|scan)_\w+", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z_]\w*")
_KEYWORDS = (
    *("SELECT", "DISTINCT", "EXCLUDE", "FROM", "JOIN", "INNER", "LEFT", "ON", "WHERE", "GROUP"),
    *("BY", "HAVING", "ORDER", "DESC", "LIMIT", "OFFSET", "UNION", "WITH", "AND", "OR", "NOT"),
    *("IN", "IS", "NULL", "LIKE", "BETWEEN", "CASE", "WHEN", "THEN", "ELSE", "END"),
)
_SHOWN = 40  # characters of the query on each side of the word that is wrong
_WHERE = "SELECT * FROM slices WHERE "  # what a condition is checked as

_ROWWISE = (  # parts of a condition whose value for a row depends on that row alone
    *(exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Paren),
    *(exp.And, exp.Or, exp.Not, exp.Is, exp.In, exp.Between, exp.Like),
    *(exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE),
    *(exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Div),
)


def select(sql: str, tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    """Runs one SELECT over `tables`, lazily; raises ConfigError on anything else."""
    columns = {name for table in tables.values() for name in table.collect_schema()}
    query = _parse(sql, "the query", {word.lower() for word in (*tables, *columns)})
    _check_tables(query, tables)
    _check_functions(sql, tables)
    check_joins(query, lambda name: _num_rows(tables[name]))
    try:
        result = pl.SQLContext(dict(tables)).execute(sql)
        result.collect_schema()
        return result
    except pl.exceptions.PolarsError as error:
        raise ConfigError(
            f"the query does not work: {str(error).splitlines()[0]}. "
            f"The columns are {', '.join(sorted(columns))}"
        ) from error


def collect(
    found: pl.LazyFrame, limit_s: float = MAX_S, limit_bytes: int = MAX_BYTES
) -> pl.DataFrame:
    """Runs a query; ConfigError where it takes too much, or its values do not go together."""
    try:
        return _collect(found, limit_s, limit_bytes)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"the query does not work: {reason}") from error


def filtered(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """Returns the rows that fulfil a condition, which `columns_of` has checked, as `collect` does.

    Raises PolarsError where the condition does not go with the columns.
    """
    return _collect(frame.lazy().filter(pl.sql_expr(where)), MAX_S, MAX_BYTES)


def _collect(found: pl.LazyFrame, limit_s: float, limit_bytes: int) -> pl.DataFrame:
    results: list[pl.DataFrame | pl.exceptions.PolarsError] = []

    def work() -> None:
        try:
            results.append(found.collect())
        except pl.exceptions.PolarsError as error:
            results.append(error)
        except pl.exceptions.PanicException as error:
            results.append(pl.exceptions.ComputeError(f"Polars gave up ({error})"))

    thread = threading.Thread(target=work, daemon=True)  # Polars cannot be stopped, but left
    thread.start()
    watch(thread, limit_s, limit_bytes)
    if isinstance(results[0], pl.exceptions.PolarsError):
        raise results[0]
    return results[0]


def _num_rows(table: pl.LazyFrame) -> int:
    return int(table.select(pl.len()).collect().item())


def columns_of(where: str, key: str, columns: Iterable[str] = ()) -> set[str]:
    """Returns the columns that a condition names; raises ConfigError, with `key`, on others."""
    name = f"{key}={where!r}" if len(where) <= 2 * _SHOWN else key
    query = _parse(_WHERE + where, name, {word.lower() for word in columns})
    _check_tables(query, {"slices": None})
    _check_functions(where, {"slices": None})
    return {column.name for column in query.find_all(exp.Column)}


def is_rowwise(where: str) -> bool:
    """True where a condition may be tried on rows piece by piece: it has no function of many."""
    condition = _parse(_WHERE + where, "the condition", set()).args.get("where")
    return condition is not None and all(type(p) in _ROWWISE for p in condition.this.walk())


def _check_functions(sql: str, tables: Mapping[str, object]) -> None:
    if function := _FILE_FUNCTION.search(sql):
        raise ConfigError(
            f"a query reads only {' and '.join(sorted(tables))}; {function[0]} is refused"
        )


def _parse(sql: str, name: str, known_words: set[str]) -> exp.Query:
    """Parses one SELECT; `name` is what messages call it."""
    if len(sql) > MAX_LENGTH:
        raise ConfigError(f"{name} has {len(sql):,} characters; at most {MAX_LENGTH:,} are read")
    logging.getLogger("sqlglot").setLevel(logging.ERROR)  # its warnings are our errors below
    try:
        statements = sqlglot.parse(sql, dialect="postgres")
    except sqlglot.errors.SqlglotError as error:
        raise ConfigError(f"{name} is not SQL: {_explain(error, known_words)}") from error
    except RecursionError:
        raise _too_deep(name) from None
    query = statements[0] if len(statements) == 1 else None
    if not isinstance(query, exp.Query):
        hint = _hint(_WORD.findall(sql)[:1], known_words)
        raise ConfigError(f"a query is one SELECT; nothing else is run{hint}")
    if _depth(query) > MAX_DEPTH:
        raise _too_deep(name)
    check_sizes(query)
    return query


def _explain(error: sqlglot.errors.SqlglotError, known_words: set[str]) -> str:
    """Returns what is wrong, with the word in its place: `FROM slices WERE >>row<< > 1`."""
    first = error.errors[0] if isinstance(error, sqlglot.errors.ParseError) else {}
    if not first.get("highlight"):
        return str(error).splitlines()[0]
    before = str(first["start_context"]).removeprefix(_WHERE)[-_SHOWN:]
    place = f">>{first['highlight']}<<{str(first['end_context'])[:_SHOWN]}"
    reason = (
        "something is missing at" if "missing" in first["description"] else "unexpected word in"
    )
    near = [*_WORD.findall(before)[-2:], first["highlight"]]
    return f"{reason} {' '.join(f'{before}{place}'.split())}{_hint(near, known_words)}"


def _hint(words: Iterable[str], known_words: set[str]) -> str:
    """Returns the question whether a word that is almost one of SQL's was meant as that."""
    for word in words:
        near = difflib.get_close_matches(word.upper(), _KEYWORDS, n=1, cutoff=0.65)
        if near and word.upper() != near[0] and word.lower() not in known_words:
            return f". Did you mean {near[0]} where it says {word}?"
    return ""


def _too_deep(name: str) -> ConfigError:
    return ConfigError(
        f"{name} is nested too deeply, or has more than {MAX_DEPTH} terms in a row: use "
        "column IN (...) in place of many ORs, and fewer brackets"
    )


def _depth(query: exp.Query) -> int:
    """Returns the number of levels of a parsed query, without recursion."""
    depth, level = 0, [query]  # level by level
    while level:
        depth += 1
        level = [child for node in level for child in node.iter_expressions()]
    return depth


def _check_tables(query: exp.Query, tables: Mapping[str, object]) -> None:
    """Raises ConfigError on a table that is not one of these, and on too many."""
    if any(part.args.get("recursive") for part in query.find_all(exp.With)):
        raise ConfigError("a query has no WITH RECURSIVE: it might never end")
    made = {cte.alias_or_name for cte in query.find_all(exp.CTE)}
    named = []
    for table in query.find_all(exp.Table):
        plain = isinstance(table.this, exp.Identifier) and not table.db and not table.catalog
        if not plain or table.name not in {*tables, *made}:
            other = ".".join(part.name for part in table.parts) or "what a function returns"
            raise ConfigError(f"a query reads only {' and '.join(sorted(tables))}, not {other}")
        named.append(table.name)
    if len(named) > MAX_TABLES or sum(name in made for name in named) > MAX_OF_WITH:
        raise ConfigError(
            f"a query reads {len(named)} tables: at most {MAX_TABLES}, and {MAX_OF_WITH} times "
            "those of its WITH"
        )
