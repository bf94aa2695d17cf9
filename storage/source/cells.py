"""Rules for single cells of a table: missing values, spelling of labels, types of columns.

A cell that is empty or holds NaN, NA, N/A, null, None, a dash, a dot, a question mark or an error
of a spreadsheet is missing, in every column, of the csv and of taxonomy.csv alike: it becomes null.
Labels and filenames are trimmed and brought to Unicode NFC; a label that a spreadsheet has made a
number, `1139490.0`, is `1139490`.
"""

import re
import unicodedata
from collections.abc import Sequence

import polars as pl

_SPELLINGS = ("nan", "na", "n/a", "null", "none", "<na>", "#n/a", "#na", "nat")
_TITLES = ("NaN", "None", "<Na>", "NaT")  # `Nan` and `Null` are names of places and people
MISSING = frozenset(
    {"", ".", "?", "-", "--", "\N{EN DASH}", "\N{EM DASH}", "-nan", "-NaN", "(null)", "\\N"}
    | {"#NULL!", "#VALUE!", "#DIV/0!", "#NAME?", "#REF!", "#NUM!"}  # of Excel and LibreOffice
    | {*_SPELLINGS, *(word.upper() for word in _SPELLINGS), *_TITLES}
)
_MISSING_NUMBER = frozenset(word.lower() for word in MISSING)
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"  # str.strip leaves these, which copies bring along
_WHOLE = re.compile(r"(\d+)\.0+")
_INTEGER = r"^-?\d+$"
_FLOAT = r"^[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|inf)$"
_DECIMAL_COMMA = r"^[-+]?\d+,\d+$"


def tidy(text: str) -> str:
    """Trims white space, invisible marks too, and composes letters (Unicode NFC)."""
    text = text.strip()
    if text.isascii():
        return text
    before = None
    while text != before:
        before, text = text, text.strip().strip(_INVISIBLE)
    return unicodedata.normalize("NFC", text)


def is_missing(text: str) -> bool:
    """True for a cell that holds nothing: empty, NaN, NA, N/A, null, None, a dash."""
    return tidy(text) in MISSING


def tidy_label(text: str) -> str | None:
    """A label as it is compared with others; None where there is none."""
    label = tidy(text)
    if label in MISSING:
        return None
    whole = _WHOLE.fullmatch(label)
    return whole[1] if whole else label


def given(column: pl.Expr) -> pl.Expr:
    """A column as trimmed text, null where its cell is missing; for stores of any age."""
    text = column.cast(pl.String).str.strip_chars()
    return pl.when(~text.is_in(list(MISSING))).then(text)


def typed_column(name: str, cells: Sequence[str], *, decimal_comma: bool = False) -> pl.Series:
    """A column of a csv with the type of its cells: int64, float64, bool or text; nulls kept.

    Text stays as given. With `decimal_comma`, `3,5` is a number.
    """
    return _typed(cells, decimal_comma).alias(name)


def _typed(cells: Sequence[str], decimal_comma: bool) -> pl.Series:
    """The cells as `typed_column` has them; no name, as Polars reads some names as patterns."""
    text = pl.Series([None if is_missing(cell) else cell for cell in cells], dtype=pl.String)
    number = pl.Series([_number(cell) for cell in cells], dtype=pl.String)
    if decimal_comma and number.str.contains(_DECIMAL_COMMA).any():
        number = number.str.replace(",", ".", literal=True)
    if number.null_count() == len(number):  # a column of NaN was one of numbers
        numeric = any(tidy(cell).lower() == "nan" for cell in cells)
        return number.cast(pl.Float64) if numeric else number
    if number.str.contains(_INTEGER).all():
        integers = number.cast(pl.Int64, strict=False)
        return integers if integers.null_count() == number.null_count() else text
    if number.str.contains(_FLOAT).all():
        return number.cast(pl.Float64)
    if number.str.contains(r"^(?i:true|false)$").all():
        return number.str.to_lowercase() == "true"
    return text


def _number(cell: str) -> str | None:
    """A cell as a column of numbers reads it: trimmed, and missing in any spelling."""
    cell = tidy(cell)
    return None if cell.lower() in _MISSING_NUMBER else cell
