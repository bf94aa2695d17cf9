"""Columns of a table in one file, which processes map: none has them in its own memory.

A column is a stream of Arrow IPC (https://arrow.apache.org/docs/format/Columnar.html) with one
record batch, not compressed, so that opening it copies nothing. Its crc32c is checked when it is
opened. Polars itself reads Arrow files into its own memory; pyarrow maps them.

    streams, each from a multiple of 64 bytes on; the directory, JSON {name: [offset, length,
    crc32c]}; at the end its offset, length and crc32c, and the magic, 32 bytes in all
"""

import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, TYPE_CHECKING

import numpy as np
import polars as pl

from storage.checksums import crc32c
from storage.read.shared.derived_files import TEMPORARY, note_use, write_derived

if TYPE_CHECKING:
    import pyarrow as pa

Directory = dict[str, tuple[int, int, int]]  # of each column offset, length and crc32c

_MAGIC = b"columns2"
_TRAILER = struct.Struct("<QQQ8s")
_ALIGNED = 64


def open_columns(path: Path, names: Sequence[str] | None = None) -> pl.DataFrame | None:
    """Maps columns of a file, or all of them; None where it is not there, or damaged.

    Raises KeyError on a name that the file lacks; may raise OSError.
    """
    # Only here, since small stores do without: 0.3 s and 27 MB
    import pyarrow as pa

    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    if size < _TRAILER.size:  # nothing to map, perhaps
        return None
    with pa.memory_map(str(path)) as file:
        data = file.read_buffer()
    directory = _read_directory(np.frombuffer(data, np.uint8))
    if directory is None:
        return None
    chosen = {name: directory[name] for name in (directory if names is None else names)}
    columns = []
    for offset, length, crc in chosen.values():
        stream = data.slice(offset, length)
        if crc32c(np.frombuffer(stream, np.uint8)) != crc:
            return None
        columns.append(pl.DataFrame(pa.ipc.open_stream(stream).read_all()))
    note_use(path)
    return pl.concat(columns, how="horizontal")


def _read_directory(data: np.ndarray) -> Directory | None:
    offset, length, crc, magic = _TRAILER.unpack(data[-_TRAILER.size :].tobytes())
    text = data[offset : offset + length]
    if magic != _MAGIC or offset + length + _TRAILER.size != len(data) or crc32c(text) != crc:
        return None
    return {name: tuple(entry) for name, entry in json.loads(text.tobytes()).items()}


def write_columns(
    path: Path, schema: pl.Schema, num_rows: int, pieces: Iterable[pl.DataFrame]
) -> bool:
    """Writes a table that comes piece by piece, and is in memory one column at a time.

    False where a type is not for mapped files, or there are not `num_rows` of `schema`. May raise
    OSError.
    """
    if not all(map(_is_plain, schema.values())):
        return False

    def write(file: IO[bytes]) -> bool:
        import pyarrow as pa

        # A first file has the pieces one after the other, the second each column in one
        with NamedTemporaryFile(dir=path.parent, suffix=TEMPORARY) as spill:
            if _write_pieces(spill.name, schema, pieces) != num_rows:
                return False
            with pa.memory_map(spill.name) as source:
                _write_streams(file, pa.ipc.open_file(source).read_all())
        return True

    return write_derived(path, write)


def _is_plain(kind: pl.DataType) -> bool:
    return kind == pl.List(pl.String) or not (
        kind.is_nested() or isinstance(kind, pl.Categorical | pl.Enum | pl.Object)
    )


def _write_pieces(target: str, schema: pl.Schema, pieces: Iterable[pl.DataFrame]) -> int | None:
    """Writes the pieces as an Arrow file; returns the number of rows, None: of another schema."""
    import pyarrow as pa

    num_rows = 0
    # The oldest layout: of texts, it has those of a piece alone, where newer ones have views
    oldest = pl.CompatLevel.oldest()
    empty = pl.DataFrame(schema=schema).to_arrow(compat_level=oldest)
    with pa.ipc.new_file(target, empty.schema) as writer:
        for piece in pieces:
            if piece.schema != schema:
                return None
            writer.write_table(piece.to_arrow(compat_level=oldest))
            num_rows += len(piece)
    return num_rows


def _write_streams(file: IO[bytes], table: "pa.Table") -> None:
    """Writes each column as a stream of one batch, and the directory."""
    import pyarrow as pa

    places: list[tuple[int, int]] = []
    for name in table.column_names:
        column = pl.DataFrame(table.select([name])).rechunk()
        stream = column.to_arrow(compat_level=pl.CompatLevel.newest())  # as Polars has it itself
        begin = file.seek(-(-file.tell() // _ALIGNED) * _ALIGNED)
        with pa.ipc.new_stream(file, stream.schema) as writer:
            writer.write_table(stream)
        places.append((begin, file.tell() - begin))
    file.flush()
    data = np.memmap(file, np.uint8, mode="r")
    entries = [(begin, size, crc32c(data[begin : begin + size])) for begin, size in places]
    text = json.dumps(dict(zip(table.column_names, entries, strict=True))).encode()
    file.write(text)
    file.write(_TRAILER.pack(len(data), len(text), crc32c(text), _MAGIC))
