"""Conditions on a column, from values as text: `site` is north, `loss` from 1 to 2."""

import math
from collections.abc import Sequence

import polars as pl

from storage.errors import ConfigError

_FLAGS = {"true": True, "false": False}


def column_condition(name: str, dtype: pl.DataType, values: Sequence[str]) -> pl.Expr:
    """True where the column has one of the values; an empty one stands for none.

    Of a list, one of its entries. Raises ConfigError where a value is none of the column's type.
    """
    column, some = pl.col(name), [value for value in values if value]
    if isinstance(dtype, pl.List):
        hits = [column.list.contains(value) for value in some]
        if "" in values:
            hits.append(column.list.len().fill_null(0) == 0)
    else:
        hits = [column.is_in(_parsed(name, dtype, some))] if some else []
        if "" in values:
            hits.append(column.is_null())
            if dtype == pl.String:
                hits.append(column == "")
    return pl.any_horizontal(hits).fill_null(False)


def range_condition(
    name: str, dtype: pl.DataType, low: float | None, high: float | None
) -> pl.Expr:
    """True where a numeric column has a value from `low` to `high`; both included."""
    if not dtype.is_numeric():
        raise ConfigError(f"the column {name} has no numbers, and no range")
    column = pl.col(name)
    inside = column.is_not_null()
    if low is not None:
        inside &= column >= low
    if high is not None:
        inside &= column <= high
    return inside.fill_null(False)


def number(text: str, name: str) -> float:
    """A finite number; ConfigError, with `name`, on anything else."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{name}: {text[:40]!r} is no number")
    return value


def _parsed(name: str, dtype: pl.DataType, values: Sequence[str]) -> pl.Series:
    if dtype == pl.Boolean:
        unknown = [value for value in values if value not in _FLAGS]
        if unknown:
            raise ConfigError(f"{name} is true or false, not {unknown[0][:40]!r}")
        return pl.Series([_FLAGS[value] for value in values]).implode()
    if dtype.is_numeric():
        numbers = pl.Series([number(value, name) for value in values], dtype=pl.Float64)
        return numbers.cast(dtype, strict=False).implode()
    try:
        return pl.Series(values, dtype=pl.String).cast(dtype).implode()
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{name} has no value {values[0][:40]!r}") from error
