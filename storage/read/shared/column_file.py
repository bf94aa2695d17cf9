"""Columns of a table in one file, which processes map: none has them in its own memory.

A column is a stream of Arrow IPC (https://arrow.apache.org/docs/format/Columnar.html) with one
record batch, not compressed, so that opening it copies nothing. Its crc32c is checked when it is
opened. Polars itself reads Arrow files into its own memory; pyarrow maps them.

    streams, each from a multiple of 64 bytes on; the directory, JSON; at the end its offset, length
    and crc32c, and the magic, 32 bytes in all

The directory has the file's own name, and of each column [name, offset, length, crc32c].
"""

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

import numpy as np
import polars as pl

from storage.checksums import crc32c
from storage.read.shared.derived_files import note_use, write_derived

if TYPE_CHECKING:
    import pyarrow as pa

Entry = tuple[str, int, int, int]  # of a column name, offset, length and crc32c

_MAGIC = b"columns2"
_TRAILER = struct.Struct("<QQQ8s")
_ALIGNED = 64
_KINDS = (  # that pyarrow and Polars give each other as they are; of lists those of texts
    *(pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64),
    *(pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Binary, pl.List),
    *(pl.Date, pl.Datetime, pl.Duration, pl.Time),
)


def open_columns(path: Path, names: Sequence[str] | None = None) -> pl.DataFrame | None:
    """Maps columns of a file, or all of them; None where it is not there, or damaged.

    Raises KeyError on a name that the file lacks; may raise OSError.
    """
    # Only here, since small stores do without: 0.3 s and 27 MB
    import pyarrow as pa

    try:
        if path.stat().st_size < _TRAILER.size:  # nothing to map, perhaps
            return None
        with pa.memory_map(str(path)) as file:
            data = file.read_buffer()
    except FileNotFoundError:  # also where another process has just deleted it
        return None
    entries = _read_directory(np.frombuffer(data, np.uint8), path.name)
    if entries is None:
        return None
    known = {entry[0]: entry for entry in entries}
    columns = {}
    for name, offset, length, crc in entries if names is None else map(known.__getitem__, names):
        stream = data.slice(offset, length)
        if crc32c(np.frombuffer(stream, np.uint8)) != crc:
            return None
        columns[name] = pl.DataFrame(pa.ipc.open_stream(stream).read_all()).to_series()
    note_use(path)
    return pl.DataFrame(columns)


def _read_directory(data: np.ndarray, name: str) -> list[Entry] | None:
    """Returns the entries of the columns; None: damaged, or the file of another name."""
    offset, length, crc, magic = _TRAILER.unpack(data[-_TRAILER.size :].tobytes())
    text = data[offset : offset + length]
    if magic != _MAGIC or offset + length + _TRAILER.size != len(data) or crc32c(text) != crc:
        return None
    directory = json.loads(text.tobytes())
    return directory["columns"] if directory["name"] == name else None


def write_columns(
    path: Path, schema: pl.Schema, num_rows: int, pieces: Iterable[pl.DataFrame]
) -> bool:
    """Writes a table that comes piece by piece, and is in memory one column at a time.

    False where a type is not for mapped files, or there are not `num_rows` of `schema`. May raise
    OSError.
    """
    if not schema or any(kind.base_type() not in _KINDS for kind in schema.values()):
        return False
    if any(isinstance(kind, pl.List) and kind.inner != pl.String for kind in schema.values()):
        return False

    def write(file: IO[bytes]) -> bool:
        import pyarrow as pa

        # A first file has the pieces one after the other, the second each column in one. It has no
        # name, so that nothing is left of it where the process is killed.
        with TemporaryFile(dir=path.parent) as spill:
            if _write_pieces(spill, schema, pieces) != num_rows:
                return False
            spill.flush()
            with pa.memory_map(f"/dev/fd/{spill.fileno()}") as source:
                columns = pa.ipc.open_file(source).read_all().columns
                _write_streams(file, path.name, dict(zip(schema, columns, strict=True)))
        return True

    return write_derived(path, write)


def _write_pieces(file: IO[bytes], schema: pl.Schema, pieces: Iterable[pl.DataFrame]) -> int | None:
    """Writes the pieces as an Arrow file; returns the number of rows, None: of another schema."""
    import pyarrow as pa

    num_rows = 0
    # The oldest layout: of texts, it has those of a piece alone, where newer ones have views
    oldest = pl.CompatLevel.oldest()
    empty = pl.DataFrame(schema=schema).to_arrow(compat_level=oldest)
    with pa.ipc.new_file(file, empty.schema) as writer:
        for piece in pieces:
            if piece.schema != schema:
                return None
            writer.write_table(piece.to_arrow(compat_level=oldest))
            num_rows += len(piece)
    return num_rows


def _write_streams(
    file: IO[bytes], own_name: str, columns: Mapping[str, "pa.ChunkedArray"]
) -> None:
    """Writes each column as a stream of one batch, and the directory."""
    import pyarrow as pa

    places: list[tuple[int, int]] = []
    for cells in columns.values():
        column = pl.DataFrame(pa.table({"cells": cells})).rechunk()
        stream = column.to_arrow(compat_level=pl.CompatLevel.newest())  # as Polars has it itself
        begin = file.seek(-(-file.tell() // _ALIGNED) * _ALIGNED)
        with pa.ipc.new_stream(file, stream.schema) as writer:
            writer.write_table(stream)
        places.append((begin, file.tell() - begin))
    file.flush()
    data = np.memmap(file, np.uint8, mode="r")
    crcs = [crc32c(data[begin : begin + size]) for begin, size in places]
    entries = [(name, *place, crc) for name, place, crc in zip(columns, places, crcs, strict=True)]
    text = json.dumps({"name": own_name, "columns": entries}).encode()
    file.write(text)
    file.write(_TRAILER.pack(len(data), len(text), crc32c(text), _MAGIC))
