"""Columns of a table in one file, which Polars maps: no process has them in its own memory.

Numbers, texts, and lists of texts are in it as Arrow has them in memory, so that opening copies
nothing. Each buffer has a crc32c, which is checked when its column is opened.

    bytes 0-15 magic, 16-31 offset and length of the directory, 32-35 its crc32c; buffers, each
    from a multiple of 64 bytes on; the directory, JSON: num_rows, columns [name, node]

A node is {format, length, buffers [[offset, length, crc32c] or null], cells: node or null}.
"""

import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl

from storage.checksums import crc32c
from storage.read.shared.arrow_columns import FORMATS, ArrowColumn
from storage.read.shared.derived_files import note_use, write_derived

Node = dict[str, Any]
Buffer = list[int]  # offset, length, and at last crc32c

_MAGIC = b"melbank columns1"
_PRELUDE = struct.Struct("<16sQQI")
_ALIGNED = 64
_INLINE = 12  # bytes of a text that a view has itself
_VIEW_BYTES = 16
_MOST_TEXT_BYTES = 2**31 - 1  # of one buffer
_TEXTS, _LISTS, _BITS = "vu", "+L", "b"


def open_columns(path: Path, names: Sequence[str] | None = None) -> pl.DataFrame | None:
    """Maps columns of a file, or all of them; None where it is not there, or damaged.

    Raises KeyError on a name that the file lacks; may raise OSError.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    if size < _PRELUDE.size:
        return None
    data = np.memmap(path, np.uint8, mode="r")
    magic, offset, length, crc = _PRELUDE.unpack(data[: _PRELUDE.size].tobytes())
    directory = data[offset : offset + length]
    if magic != _MAGIC or offset + length != size or crc32c(directory) != crc:
        return None
    nodes = dict(json.loads(directory.tobytes())["columns"])
    chosen = {name: nodes[name] for name in (nodes if names is None else names)}
    if not all(_is_whole(node, data) for node in chosen.values()):
        return None
    note_use(path)
    return pl.DataFrame([_column(node, data).series(name) for name, node in chosen.items()])


def write_columns(
    path: Path, schema: pl.Schema, num_rows: int, pieces: Iterable[pl.DataFrame]
) -> bool:
    """Writes a table piece by piece; False where a type cannot be had, or there are fewer rows.

    May raise OSError.
    """
    if not all(kind in FORMATS for kind in schema.values()):
        return False

    def write(file: IO[bytes]) -> bool:
        space = _Space(file)
        columns = [(name, _writer(space, kind, num_rows)) for name, kind in schema.items()]
        written = 0
        for piece in pieces:
            if piece.schema != schema or written + len(piece) > num_rows:
                return False
            for name, column in columns:
                column.add(piece[name])
            written += len(piece)
        if written != num_rows:
            return False
        nodes = [(name, column.finish()) for name, column in columns]
        space.close({"num_rows": num_rows, "columns": nodes})
        return True

    return write_derived(path, write)


def _is_whole(node: Node, data: np.ndarray) -> bool:
    """True where all buffers of a column have their checksums."""
    for buffer in node["buffers"]:
        if buffer is not None and crc32c(data[buffer[0] : buffer[0] + buffer[1]]) != buffer[2]:
            return False
    return node["cells"] is None or _is_whole(node["cells"], data)


def _column(node: Node, data: np.ndarray) -> ArrowColumn:
    buffers = [
        None if buffer is None else data[buffer[0] : buffer[0] + buffer[1]]
        for buffer in node["buffers"]
    ]
    if node["format"] == _TEXTS:  # the last buffer says how long those of the texts are
        buffers.append(np.array([buffer[1] for buffer in node["buffers"][2:]], np.int64))
    cells = None if node["cells"] is None else _column(node["cells"], data)
    return ArrowColumn(node["format"], node["length"], buffers, cells)


class _Space:
    """Space of a file that is being written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._end = _ALIGNED

    def take(self, length: int) -> Buffer:
        """Reserves a buffer."""
        begin = -(-self._end // _ALIGNED) * _ALIGNED
        self._end = begin + length
        return [begin, length]

    def fill(self, buffer: Buffer, values: np.ndarray, place: int = 0) -> None:
        """Writes into a buffer, from one of its bytes on."""
        self._file.seek(buffer[0] + place)
        self._file.write(np.ascontiguousarray(values).data)

    def put(self, values: np.ndarray) -> Buffer:
        """Writes a buffer of its own."""
        buffer = self.take(values.nbytes)
        self.fill(buffer, values)
        return buffer

    def close(self, directory: Node) -> None:
        """Adds checksums, and writes directory and prelude."""
        self._file.truncate(self._end)
        self._file.flush()
        data = np.memmap(self._file, np.uint8, mode="r")
        for _, node in directory["columns"]:
            _add_checksums(node, data)
        text = json.dumps(directory).encode()
        self._file.seek(self._end)
        self._file.write(text)
        self._file.seek(0)
        self._file.write(_PRELUDE.pack(_MAGIC, self._end, len(text), crc32c(text)))


def _add_checksums(node: Node, data: np.ndarray) -> None:
    for buffer in node["buffers"]:
        if buffer is not None:
            buffer.append(crc32c(data[buffer[0] : buffer[0] + buffer[1]]))
    if node["cells"] is not None:
        _add_checksums(node["cells"], data)


class _Writer:
    """Writes a column of `length` cells; kinds of columns say how, in `_put` and `_buffers`."""

    cells: Node | None = None

    def __init__(self, space: _Space, form: str, length: int) -> None:
        self.space, self.form, self.length = space, form, length
        self.written = 0
        self._valid: np.ndarray | None = None

    def add(self, column: pl.Series) -> None:
        """Writes the next cells."""
        end = self.written + len(column)
        if column.null_count():
            if self._valid is None:
                self._valid = np.ones(self.length, bool)
            self._valid[self.written : end] = column.is_not_null().to_numpy()
        if len(column):
            self._put(column)
        self.written = end

    def finish(self) -> Node:
        """Returns the column's node, without checksums."""
        valid = None if self._valid is None else self.space.put(_bits(self._valid))
        buffers = [valid, *self._buffers()]
        return {
            "format": self.form,
            "length": self.length,
            "buffers": buffers,
            "cells": self.cells,
        }

    def _put(self, column: pl.Series) -> None:
        raise NotImplementedError

    def _buffers(self) -> list[Buffer]:
        raise NotImplementedError


class _Numbers(_Writer):
    """Column of numbers."""

    def __init__(self, space: _Space, form: str, length: int, item_bytes: int) -> None:
        super().__init__(space, form, length)
        self._item_bytes = item_bytes
        self._values = space.take(length * item_bytes)

    def _put(self, column: pl.Series) -> None:
        values = column.fill_null(0).to_numpy()
        self.space.fill(self._values, values, self.written * self._item_bytes)

    def _buffers(self) -> list[Buffer]:
        return [self._values]


class _Flags(_Writer):
    """Column of truth values, as bits."""

    def __init__(self, space: _Space, form: str, length: int) -> None:
        super().__init__(space, form, length)
        self._values = np.zeros(length, bool)

    def _put(self, column: pl.Series) -> None:
        end = self.written + len(column)
        self._values[self.written : end] = column.fill_null(False).to_numpy()

    def _buffers(self) -> list[Buffer]:
        return [self.space.put(_bits(self._values))]


class _Texts(_Writer):
    """Column of texts: views of 16 bytes, and the bytes of each piece in a buffer of their own."""

    def __init__(self, space: _Space, form: str, length: int) -> None:
        super().__init__(space, form, length)
        self._views = space.take(length * _VIEW_BYTES)
        self._texts: list[Buffer] = []

    def _put(self, column: pl.Series) -> None:
        texts = column.fill_null("")
        # A text that follows itself, as the id of a recording's slices, is written once
        begins = np.flatnonzero((texts != texts.shift()).fill_null(True).to_numpy())
        repeats = np.diff(begins, append=len(texts))
        texts = texts.gather(begins)
        data = np.frombuffer(texts.str.join("").item().encode(), np.uint8)
        if len(data) > _MOST_TEXT_BYTES:
            raise OSError(f"{len(data):,} bytes of texts in {len(column):,} cells")
        lengths = texts.str.len_bytes().to_numpy()
        views = np.repeat(_views(data, lengths, len(self._texts)), repeats, axis=0)
        self.space.fill(self._views, views, self.written * _VIEW_BYTES)
        if (lengths > _INLINE).any():
            self._texts.append(self.space.put(data))

    def _buffers(self) -> list[Buffer]:
        return [self._views, *self._texts]


class _Lists(_Writer):
    """Column of lists of texts, whose cells are kept until their number is known."""

    def __init__(self, space: _Space, form: str, length: int) -> None:
        super().__init__(space, form, length)
        self._ends = np.zeros(length + 1, np.int64)
        self._pieces: list[pl.Series] = []

    def _put(self, column: pl.Series) -> None:
        counts = column.list.len().fill_null(0).to_numpy().astype(np.int64)
        begin, end = self.written + 1, self.written + 1 + len(column)
        self._ends[begin:end] = self._ends[self.written] + np.cumsum(counts)
        held = column.filter(pl.Series(counts > 0))  # a list without cells explodes to a null
        self._pieces.append(held.explode())

    def _buffers(self) -> list[Buffer]:
        below = _Texts(self.space, _TEXTS, int(self._ends[-1]))
        for piece in self._pieces:
            below.add(piece)
        self.cells = below.finish()
        return [self.space.put(self._ends)]


def _writer(space: _Space, kind: pl.DataType, length: int) -> _Writer:
    form = FORMATS[kind]
    kinds = {_TEXTS: _Texts, _LISTS: _Lists, _BITS: _Flags}
    if form in kinds:
        return kinds[form](space, form, length)
    return _Numbers(space, form, length, pl.Series([], dtype=kind).to_numpy().itemsize)


def _bits(flags: np.ndarray) -> np.ndarray:
    return np.packbits(flags, bitorder="little")


def _views(data: np.ndarray, lengths: np.ndarray, buffer_no: int) -> np.ndarray:
    """Returns Arrow's views of texts that follow each other in `data`, uint8 [n, 16].

    A view has the length and, of up to 12 bytes, the text itself, of more its first 4, the number
    of its buffer and the offset there.
    """
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    place = np.arange(_INLINE)
    padded = np.concatenate([data, np.zeros(_INLINE, np.uint8)])
    views = np.zeros((len(lengths), _VIEW_BYTES), np.uint8)
    views[:, :4] = lengths.astype("<u4")[:, None].view(np.uint8)
    heads = padded[starts[:, None] + place]
    is_long = lengths > _INLINE
    views[:, 4:] = np.where(place < lengths[:, None], heads, 0)
    where = np.stack([np.full(is_long.sum(), buffer_no), starts[is_long]], axis=1)
    views[is_long, 8:] = where.astype("<u4").view(np.uint8)
    return views
