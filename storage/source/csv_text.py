"""Reads a csv as people write them: by hand, from pandas, R, a spreadsheet, Kaggle.

Recognised: UTF-8 with or without a byte order mark, UTF-16 and UTF-32; the separators comma,
semicolon, tab and bar; any line ends; quotes; lines of comment (they begin with `#`); blank lines
and empty cells at the ends of rows. Refused, with the line and the way out: other encodings, rows
with too many or too few cells, quotes that do not close, files that are no text.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from storage.errors import ConfigError
from storage.source.cells import tidy

SEPARATORS = (",", ";", "\t", "|")
MAX_COLUMNS = 4096
MAX_NAME = 1000  # letters of a column's name
MAX_SHOWN = 3
# A letter of UTF-8, each of its two bytes read as one of latin-1 or cp1252.
_SECOND = bytes(range(0x80, 0xC0)).decode("cp1252", "ignore")
_GARBLED = re.compile(f"[\u00c2-\u00c5][\u0080-\u00bf{_SECOND}]")
_BOMS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_NO_TEXT = {
    b"PK\x03\x04": "a spreadsheet or zip archive: save it as csv (UTF-8)",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet: save it as csv (UTF-8)",
    b"\x1f\x8b": "compressed (gzip): unpack it",
    b"PAR1": "Parquet: write it as csv",
    b"version https://git-lfs": "a git-LFS pointer: run `git lfs pull`",
    b"<": "a web page or XML: download the table again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A csv as text: `columns` by name, cell by cell as written.

    `decimal_comma`: numbers may be written 3,5. `notes`: what users should know of the file.
    """

    columns: dict[str, list[str]]
    num_rows: int
    decimal_comma: bool = False
    notes: tuple[str, ...] = ()


def read_csv(data: bytes, path: str) -> TextTable:
    """Reads a csv; raises ConfigError, naming the file and the line, where it is none."""
    text = _decode(data, path)
    lines = _Lines(text)
    header, separator = _header(lines, path)
    names = _names(header, path)
    spaced = any(name.startswith(" ") for name in header[1:])
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=spaced)
    rows: list[list[str]] = []
    ragged: list[str] = []
    try:
        for row in reader:
            if any(row):
                if len(row) < len(names) or any(row[len(names) :]):
                    ragged.append(f"line {lines.start} has {len(row)} cells")
                rows.append(row[: len(names)])
            lines.begin_row()
    except csv.Error as error:
        raise ConfigError(
            f"{path}, line {lines.start}: {error}; correct the quotes in that row"
        ) from error
    if ragged:
        more = f" and {len(ragged) - MAX_SHOWN} more" if len(ragged) > MAX_SHOWN else ""
        raise ConfigError(
            f"{path}: {', '.join(ragged[:MAX_SHOWN])}{more}, the header has {len(names)}: put "
            "quotes around cells that hold the separator, and write every cell, if only empty"
        )
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    return TextTable(
        columns=columns,
        num_rows=len(rows),
        decimal_comma=separator in (";", "\t"),
        notes=tuple(_notes(text, lines, path)),
    )


def _decode(data: bytes, path: str) -> str:
    for magic, what in _NO_TEXT.items():
        if data.startswith(magic):
            raise ConfigError(f"{path} is {what}")
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), None)
    encoding = encoding or _wide_encoding(data) or "utf-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigError(_other_encoding(data, path, encoding, error.start)) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ConfigError(f"{path}, line {line}, has a zero byte: it is damaged, or no csv")
    return text


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 without a byte order mark: every other byte of its header is zero."""
    head = data[:64]
    if len(head) < 4 or len(head) % 2:
        head = head[:-1]
    if head and not any(head[1::2]) and all(head[::2]):
        return "utf-16-le"
    return "utf-16-be" if head and not any(head[::2]) and all(head[1::2]) else None


def _other_encoding(data: bytes, path: str, encoding: str, at: int) -> str:
    """Message on bytes that are not of the encoding that the file seems to have."""
    if encoding != "utf-8":
        return f"{path} begins as {encoding} but is not so from byte {at:,} on: write it again"
    line = data.count(b"\n", 0, at) + 1
    around = data[max(0, at - 8) : at + 8].decode("ascii", "backslashreplace").strip()
    name = "CP1252" if any(0x80 <= byte < 0xA0 for byte in data) else "LATIN1"
    return (
        f"{path} is not UTF-8: line {line} has the byte 0x{data[at]:02x} in {around!r}. In Europe "
        f"and America that is mostly {name}, of Windows, Excel or R: save it as `CSV UTF-8`, or "
        f"convert it: iconv -f {name} -t UTF-8 OLD > NEW"
    )


class _Lines:
    """Iterates over the lines of a text; leaves out comments between the rows of a csv."""

    def __init__(self, text: str) -> None:
        self._lines = iter(io.StringIO(text, newline=""))
        self._number = 0
        self._in_row = False
        self.start = 0  # number of the line that the current row begins at
        self.num_comments = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._next()
        while not self._in_row and line.startswith("#"):
            self.num_comments += 1
            line = self._next()
        if not self._in_row:
            self.start = self._number
        self._in_row = True
        return line

    def begin_row(self) -> None:
        """Has the next line begin a row, or be a comment."""
        self._in_row = False

    def header(self) -> str:
        """The first line with anything in it; comments above it are left out."""
        for line in iter(self._next, None):
            if not line.strip():
                continue
            if line.startswith("#") and not _names_files(line[1:]):
                self.num_comments += 1
                continue
            return line.removeprefix("#")
        raise StopIteration

    def _next(self) -> str:
        self._number += 1
        return next(self._lines)


def _names_files(line: str) -> bool:
    """True for a header that begins with `#`."""
    return any("filename" in map(tidy, line.split(separator)) for separator in SEPARATORS)


def _header(lines: _Lines, path: str) -> tuple[list[str], str]:
    """The cells of the header, and the separator that gives most of them."""
    try:
        line = lines.header()
        given = None
        if line.lower().startswith("sep="):  # Excel's own first line
            given = line[4:].strip("\r\n") or None
            line = lines.header()
    except StopIteration as error:
        raise ConfigError(f"{path} is not a readable csv: it is empty") from error
    found = {}
    for separator in (given,) if given in SEPARATORS else SEPARATORS:
        try:
            found[separator] = next(csv.reader([line], delimiter=separator, strict=True))
        except csv.Error:
            continue
    if not found:
        raise ConfigError(f"{path}, its header: correct the quotes in it")
    best = max(found, key=lambda separator: len(found[separator]))
    return found[best], best


def _names(header: list[str], path: str) -> list[str]:
    """The names of the columns, trimmed; of two that are equal, the second gets a suffix."""
    if len(header) > MAX_COLUMNS:
        raise ConfigError(f"{path} has {len(header):,} columns, more than {MAX_COLUMNS:,}")
    names: list[str] = []
    for place, name in enumerate(map(tidy, header)):
        if len(name) > MAX_NAME:
            raise ConfigError(
                f"{path}: the name of column {place + 1} has {len(name):,} letters, more than "
                f"{MAX_NAME:,}: is the header there?"
            )
        free, number = name, 0
        while free in names or (free != name and free in header):
            free, number = f"{name}_duplicated_{number}", number + 1
        names.append(free)
    return names


def _notes(text: str, lines: _Lines, path: str) -> Iterator[str]:
    if lines.num_comments:
        yield f"{path}: {lines.num_comments:,} lines that begin with # are taken as comments"
    if garbled := _GARBLED.search(text):
        line = text[: garbled.start()].count("\n") + 1
        yield (
            f"{path}, line {line}: {garbled[0]!r} looks like UTF-8 that was read as latin-1, so "
            "export the table again"
        )
    if "\N{REPLACEMENT CHARACTER}" in text:
        line = text[: text.index("\N{REPLACEMENT CHARACTER}")].count("\n") + 1
        yield (
            f"{path}, line {line}: letters were lost before (U+FFFD is there in their place): "
            "export the table again"
        )
