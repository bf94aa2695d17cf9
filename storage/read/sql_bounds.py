"""Bounds on what a query makes of its tables: long texts and lists, joins without a key, memory.

Before a query runs, two things are refused: a function that makes texts or lists of any length, and
a join row by row of large tables. Time and memory are watched while it runs.
"""

import threading
import time
from collections.abc import Callable

import psutil
from sqlglot import exp

from storage.errors import ConfigError

MAX_MADE = 10_000  # characters of a text, or entries of a list
MAX_JOINED = 10_000_000  # rows of tables joined without a key
MAX_BYTES = 4 * 2**30  # more than before the query
_LOOK_S = 0.02  # between two looks at the memory

_SIZED = {
    exp.Pad: ("expression",),
    exp.Repeat: ("times",),
    exp.Space: ("this",),
    exp.GenerateSeries: ("start", "end", "step"),
    exp.ExplodingGenerateSeries: ("start", "end", "step"),
}
_SIZED_BY_NAME = ("RANGE", "ARRAY_REPEAT", "REPEAT", "SPACE", "LPAD", "RPAD", "GENERATE_SERIES")
_KEYED = ("NATURAL", "ASOF")
_FILTERS = ("SEMI", "ANTI")


def check_sizes(query: exp.Expr) -> None:
    """Raises ConfigError where a function may make a text or a list of any length."""
    for call in query.find_all(*_SIZED, exp.Anonymous):
        if isinstance(call, exp.Anonymous):
            sizes = call.expressions if call.name.upper() in _SIZED_BY_NAME else []
        else:
            sizes = [call.args[name] for name in _SIZED[type(call)] if call.args.get(name)]
        if not all(_is_small(size) for size in sizes):
            raise ConfigError(
                f"{call.sql(dialect='postgres')[:80]} in a query may take any memory: give whole "
                f"numbers from {-MAX_MADE:,} to {MAX_MADE:,} there, as they are"
            )


def _is_small(size: exp.Expr) -> bool:
    number = size.this if isinstance(size, exp.Neg) else size
    if not isinstance(number, exp.Literal) or number.is_string or not number.this.isdecimal():
        return False
    return len(number.this) < 10 and int(number.this) <= MAX_MADE


def check_joins(query: exp.Expr, num_rows: Callable[[str], int]) -> None:
    """Raises ConfigError where tables are joined row by row, into more than `MAX_JOINED` rows.

    `num_rows` gives the rows of a table of ours; a table that the query makes counts as the largest
    of those that it reads, by its LIMIT, or as one row where it is one aggregate.
    """
    for select in query.find_all(exp.Select):
        crossed = [join.this for join in select.args.get("joins") or [] if _is_crossed(join)]
        if not crossed:
            continue
        made = {cte.alias_or_name: cte.this for cte in query.find_all(exp.CTE)}
        joined = 1
        for source in (select.args["from_"].this, *crossed):
            joined *= _most_rows(source, made, num_rows)
        if joined > MAX_JOINED:
            raise ConfigError(
                f"the query joins {len(crossed) + 1} tables row by row, into {joined:,} rows; at "
                f"most {MAX_JOINED:,} are made: join them ON columns that are equal (=), or join "
                "sub-queries with a LIMIT"
            )


def _is_crossed(join: exp.Join) -> bool:
    """True for a join in which no column of one table must equal one of the other."""
    if join.args.get("using") or join.method in _KEYED or join.kind in _FILTERS:
        return False
    condition = join.args.get("on")
    if condition is None:
        return True
    condition = condition.unnest()
    terms = condition.flatten() if isinstance(condition, exp.And) else [condition]
    return not any(_is_key(term.unnest()) for term in terms)


def _is_key(term: exp.Expr) -> bool:
    if not isinstance(term, exp.EQ):
        return False
    left, right = (side.find(exp.Column) for side in (term.left, term.right))
    return left is not None and right is not None and left.sql() != right.sql()


def _most_rows(source: exp.Expr, made: dict[str, exp.Expr], num_rows: Callable[[str], int]) -> int:
    if isinstance(source, exp.Table) and source.name not in made:
        return num_rows(source.name)
    inner = made[source.name] if isinstance(source, exp.Table) else source.this
    if isinstance(inner, exp.Select):
        if limit := inner.args.get("limit"):
            size = limit.expression
            if isinstance(size, exp.Literal) and size.this.isdecimal():
                return int(size.this)
        if not inner.args.get("group") and all(
            column.find(exp.AggFunc) and not column.find(exp.Window) for column in inner.expressions
        ):
            return 1
    named = {table.name for table in source.find_all(exp.Table)} | {
        table.name for part in made.values() for table in part.find_all(exp.Table)
    }
    return max((num_rows(name) for name in named - made.keys()), default=1)


def watch(query: threading.Thread, limit_s: float, limit_bytes: int) -> None:
    """Waits for a query that runs; ConfigError where it takes too long, or too much memory.

    Polars cannot be stopped, but left: it goes on until the program ends.
    """
    process, end_s = psutil.Process(), time.monotonic() + limit_s
    before = process.memory_info().rss  # at once: much is taken before the first look
    while query.is_alive():
        query.join(_LOOK_S)
        grown = process.memory_info().rss - before
        if grown > limit_bytes:
            raise ConfigError(
                f"the query was given up after {grown / 2**30:.1f} GiB of memory: ask for less, "
                "with WHERE, or join on columns whose values are unique"
            )
        if query.is_alive() and time.monotonic() > end_s:
            raise ConfigError(
                f"the query was given up after {limit_s:g} s: ask for less, with WHERE, or join "
                "on columns whose values are unique"
            )
