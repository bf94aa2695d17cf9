"""Checks whatever is read from disk or network before it is used: names, JSON, tables, arrays.

A file may be broken or forged, whatever its origin. It can name objects of its own
folder only (`is_plain`), nest and count no further than the limits here, and has the columns and
types that its readers use. The checks raise ValueError with the rule that is broken; a reader adds
the name of the file and the way out. `decode_parquet` does so itself.
"""

import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, Any

import numpy as np
import polars as pl
from numpy.lib import format as npy

from storage.errors import DamageError

MAX_NAME_BYTES = 255  # of one folder or file, as file systems have it
MAX_JSON_BYTES = 256 * 2**20
MAX_JSON_DEPTH = 32
MAX_ROW = 2**40  # rows of a store, and so of whatever counts slices, are below
MAX_NPY_HEADER_BYTES = 10_000
_ROWS_PER_BYTE = 4  # of Parquet; our tables have less than one
_SMALL_BYTES = 2**17
_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NPY_ITEM = re.compile(
    r"""\s*(['"])(?P<key>descr|fortran_order|shape)\1\s*:\s*"""
    r"""(?:(['"])(?P<descr>[<>|=]?[A-Za-z]\d{0,4})\3|(?P<flag>True|False)|"""
    r"""\((?P<shape>[\dL,\s]{0,400})\))\s*,?"""
)


def is_plain(name: object) -> bool:
    """True for a relative name of folders and a file, none of which is empty, `.` or `..`."""
    if not isinstance(name, str) or "\0" in name:
        return False
    try:
        parts = name.encode().split(b"/")
    except UnicodeEncodeError:
        return False
    return all(part not in (b"", b".", b"..") and len(part) <= MAX_NAME_BYTES for part in parts)


def check_plain(name: object, *, flat: bool = False) -> str:
    """Returns a name; ValueError unless it is plain, and `flat`: of no folder within."""
    if not isinstance(name, str) or not is_plain(name) or (flat and "/" in name):
        raise ValueError(f"{_shown(name)} is no plain name of a file in the same folder")
    return name


def parse_json(data: bytes, *, strict: bool = True) -> Any:
    """Parses JSON; ValueError on text that is none, nests too deep or is no Unicode.

    With `strict` numbers are finite and fit 64 bits.
    """
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"{len(data):,} bytes of JSON, of which {MAX_JSON_BYTES:,} are read")
    text = data.decode(json.detect_encoding(data))
    has_escapes = _HALF_PAIR.search(text) is not None
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"it nests deeper than {MAX_JSON_DEPTH} levels") from error
    if strict or has_escapes:
        _check_values(document, has_escapes=has_escapes)
    return document


def _check_values(document: Any, *, has_escapes: bool) -> None:
    """Raises ValueError on values that our tables and arrays could not hold."""
    level = [document]
    for _ in range(MAX_JSON_DEPTH):
        if not level:
            return
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
                if has_escapes:
                    below += value
            elif isinstance(value, list):
                below += value
            elif isinstance(value, int) and not -(2**63) <= value < 2**64:
                raise ValueError("a number in it does not fit 64 bits")
            elif isinstance(value, float) and not math.isfinite(value):
                raise ValueError("a number in it is not finite")
            elif has_escapes and isinstance(value, str):
                value.encode()
        level = below
    if level:
        raise ValueError(f"it nests deeper than {MAX_JSON_DEPTH} levels")


def record_of(value: Any, what: str = "it") -> dict[str, Any]:
    """Returns a JSON object; ValueError where a value is none."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {_shown(value)}, not a JSON object")
    return value


def text_of(record: Mapping[str, Any], name: str) -> str:
    """Returns a field that is text; ValueError where it is missing or of another type."""
    value = record.get(name)
    if not isinstance(value, str):
        raise ValueError(f"its {name} is {_shown(value)}, not text")
    return value


def sha256_of(record: Mapping[str, Any], name: str) -> str:
    """Returns a field that is a sha256 in hex; ValueError where it is none."""
    value = text_of(record, name)
    if not _SHA256.fullmatch(value):
        raise ValueError(f"its {name} is {_shown(value)}, no sha256 in hex")
    return value


def whole_of(record: Mapping[str, Any], name: str, *, least: int = 0, most: int = 2**63 - 1) -> int:
    """Returns a field that is a whole number in a range; ValueError where it is not."""
    value = record.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"its {name} is {_shown(value)}, no whole number from {least} to {most}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRule:
    """Rule of a table: types of its columns, those without nulls, ranges of numbers.

    Files of an earlier version may lack the `optional` columns. `schema` lacks columns of users;
    it takes types and classes of types, as Polars does. Values of `ranges` are from the first to
    the second number. `rising`: column that increases from row to row.
    """

    schema: Mapping[str, Any]
    filled: Sequence[str] = ()
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    rising: str = ""
    optional: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", dict(pl.DataFrame(schema=dict(self.schema)).schema))


def decode_parquet(
    data: bytes, where: str, rule: TableRule, way_out: str, columns: list[str] | None = None
) -> pl.DataFrame:
    """Decodes a table, or some columns; DamageError, naming the file, where it breaks its rule."""
    try:
        frame = _read_parquet(data, columns)
        wanted = rule.schema if columns is None else {n: rule.schema[n] for n in columns}
        if not wanted.items() <= frame.schema.items():
            lacks = {name for name in rule.optional if name not in frame.columns}
            wanted = {name: kind for name, kind in wanted.items() if name not in lacks}
            frame = frame.with_columns(_typed(frame, *column) for column in wanted.items())
        _check_rows(frame, rule)
    except ValueError as error:
        raise DamageError(f"{where} is damaged ({error}): {way_out}") from error
    return frame


def decode_parquets(
    groups: Sequence[tuple[TableRule, Sequence[bytes]]],
) -> list[tuple[pl.DataFrame, list[int]] | None]:
    """Decodes groups of tables in one pass; joins each, with the number of rows of its tables.

    None for a group whose tables differ in columns or break their rule, or for all groups where a
    table is damaged: `decode_parquet` finds the reason, and takes twice as long.
    """
    try:
        frames = pl.collect_all([_scanned(data) for _, tables in groups for data in tables])
    except _UNREADABLE:
        return [None] * len(groups)
    rest = iter(frames)
    return [_joined(rule, tables, [*islice(rest, len(tables))]) for rule, tables in groups]


def _joined(
    rule: TableRule, tables: Sequence[bytes], frames: list[pl.DataFrame]
) -> tuple[pl.DataFrame, list[int]] | None:
    try:
        whole = pl.concat(frames, how="vertical")
        heights = [_checked_height(*pair) for pair in zip(tables, frames, strict=True)]
        _check_rows(whole, rule, heights)
    except (pl.exceptions.PolarsError, ValueError):
        return None
    return (whole, heights) if rule.schema.items() <= whole.schema.items() else None


def _read_parquet(data: bytes, columns: list[str] | None) -> pl.DataFrame:
    """Reads a Parquet; ValueError where Polars cannot, or where few bytes promise many rows."""
    try:
        lazy = _scanned(data)
        frame = (lazy if columns is None else lazy.select(columns)).collect()
    except _UNREADABLE as error:
        raise ValueError((str(error).splitlines() or ["it is no Parquet"])[0][:200]) from error
    _checked_height(data, frame)
    return frame


def _scanned(data: bytes) -> pl.LazyFrame:
    """Opens a Parquet, for reading a row more than it can have; the limit costs large ones time."""
    limit = _ROWS_PER_BYTE * len(data) + 1 if len(data) < _SMALL_BYTES else None
    return pl.scan_parquet(io.BytesIO(data), n_rows=limit)


def _checked_height(data: bytes, frame: pl.DataFrame) -> int:
    most = _ROWS_PER_BYTE * len(data)
    if frame.height > most:
        raise ValueError(f"{len(data):,} bytes promise more than {most:,} rows")
    return frame.height


def _typed(frame: pl.DataFrame, name: str, wanted: pl.DataType) -> pl.Series:
    """Returns a column with its type; ValueError where it is missing or of another kind."""
    if name not in frame.columns:
        raise ValueError(f"it lacks the column {name}")
    column = frame[name]
    if column.dtype == wanted:
        return column
    is_whole = column.dtype.is_integer() and (wanted.is_numeric() or wanted == pl.String)
    is_float = column.dtype.is_float() and wanted.is_float()
    if not (is_whole or is_float or column.dtype == pl.Null):
        raise ValueError(f"its column {name} is {column.dtype}, not {wanted}")
    try:
        return column.cast(wanted)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"its column {name} is {column.dtype}, not {wanted}") from error


def _check_rows(frame: pl.DataFrame, rule: TableRule, heights: Sequence[int] = ()) -> None:
    """Raises ValueError on nulls, numbers out of range, and rows out of order.

    In a frame of several tables, of `heights` rows each, the order is that within each of them.
    """
    there = set(frame.columns)
    for name in rule.filled:
        if name in there and frame.get_column(name).null_count():
            raise ValueError(f"its column {name} has nulls")
    for name, (least, most) in rule.ranges.items():
        if name not in there:
            continue
        column = frame.get_column(name)
        low, high = column.min(), column.max()
        if isinstance(low, int) and isinstance(high, int) and (low < least or high > most):
            raise ValueError(
                f"its column {name} goes from {low} to {high}, beyond {least} to {most}"
            )
    if rule.rising and rule.rising in there:  # a column may be named ""
        rising = frame.get_column(rule.rising).to_numpy()
        falls = np.flatnonzero(rising[1:] <= rising[:-1]) + 1
        if len(falls) and not np.isin(falls, np.cumsum(heights)).all():
            raise ValueError(f"its column {rule.rising} does not increase from row to row")


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, "np.dtype[Any]"]:
    """Reads shape, Fortran order and cell type of a .npy file; ValueError where it has none.

    Nothing is evaluated: what is no plain array of numbers by the letter is refused.
    """
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f".npy version {version}, not a plain array")
    size = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
    if size > MAX_NPY_HEADER_BYTES:
        raise ValueError(f"a header of {size:,} bytes")
    text = file.read(size).decode("latin-1").strip()
    found: dict[str, str] = {}
    place = 1
    while match := _NPY_ITEM.match(text, place):
        found[match["key"]] = match[
            {"descr": "descr", "fortran_order": "flag", "shape": "shape"}[match["key"]]
        ] or ("" if match["key"] == "shape" and match["shape"] is not None else "?")
        place = match.end()
    if len(found) != 3 or "?" in found.values() or text[:1] + text[place:].strip() != "{}":
        raise ValueError("its header is not that of a plain array of numbers")
    try:
        sizes = [int(number.rstrip("L")) for number in found["shape"].split(",") if number.strip()]
        return tuple(sizes), found["fortran_order"] == "True", np.dtype(found["descr"])
    except TypeError as error:
        raise ValueError(f"{found['descr']} is no type of numbers") from error


def _shown(value: Any) -> str:
    """A value as messages show it: short, and printable whatever it is."""
    text = ascii(value) if not isinstance(value, dict | list) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:80]} ..."
