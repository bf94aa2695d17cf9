"""Codecs of inner chunks: one slice <-> bytes, each followed by its crc32c (Zarr v3 codecs).

Both are in Zarr's own specification, so that any reader of Zarr v3 reads them:

    lz4     blosc with lz4, floats with their bytes shuffled: decodes in a fifth of the time
    zstd    zstd level 1: a fifth smaller; the only one until manifests of version 2

Figures are in docs/benchmarks.md. A blosc chunk is one block, so that its bytes do not depend on
threads. A zstd chunk is one frame of four blocks, each with its own Huffman table: the values of
low and of high mel bands are distributed differently. On real slices that saves 6 to 8 % of the
bytes; to readers it is an ordinary frame.
"""

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import zstandard
from numcodecs import blosc

from storage.checksums import crc32c_bytes
from storage.errors import DamageError

LZ4, ZSTD = "lz4", "zstd"
DEFAULT_CODEC = LZ4  # of new stores; a store keeps its own

CRC_BYTES = 4
ZSTD_LEVEL = 1
BLOCKS_PER_CHUNK = 4
BLOSC_LEVEL = 5
_BLOSC_HEADER = struct.Struct("<4xI4xI")  # of 16 bytes: the sizes decoded, and of the chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkCodec:
    """Both ways of a codec, without the checksum.

    `unpack` fills a uint8 array [bytes]; it raises DamageError, RuntimeError or ValueError on bytes
    that are not those of so many cells. `share` is the size of packed uint8 cells on real slices.
    """

    pack: Callable[[np.ndarray], bytes]
    unpack: Callable[[memoryview, np.ndarray], None]
    share: float


def encode_chunk(cells: np.ndarray, codec: str) -> bytes:
    """One slice as an inner chunk."""
    packed = CODECS[codec].pack(np.ascontiguousarray(cells))
    return packed + crc32c_bytes(packed)


def decode_chunk(packed: bytes | memoryview, codec: str, view: np.ndarray) -> None:
    """Decodes one inner chunk into `view`, a uint8 array of its size; checks no checksum.

    Raises DamageError, RuntimeError or ValueError on bytes that are no such chunk.
    """
    if len(packed) <= CRC_BYTES:
        raise DamageError(f"a chunk of {len(packed)} bytes holds nothing")
    CODECS[codec].unpack(memoryview(packed)[:-CRC_BYTES], view)


class _Zstd(threading.local):
    """Both ways, for each thread: making one takes as long as a fifth of the compressing."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_ZSTD = _Zstd()


def _pack_zstd(cells: np.ndarray) -> bytes:
    data = cells.data.cast("B")
    frame = _ZSTD.compressor.compressobj(size=len(data))
    size = -(-len(data) // BLOCKS_PER_CHUNK)
    pieces = []
    for start in range(0, len(data), size):
        pieces.append(frame.compress(data[start : start + size]))
        pieces.append(frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    return b"".join([*pieces, frame.flush()])


def _unpack_zstd(packed: memoryview, view: np.ndarray) -> None:
    # Two thirds of the time of numcodecs' zstd, which is built without the decoder in assembler.
    try:
        _check_size(zstandard.frame_content_size(packed), view)
        num_bytes = _ZSTD.decompressor.stream_reader(packed).readinto(view.data)
    except zstandard.ZstdError as error:
        raise DamageError(str(error)) from error
    _check_size(num_bytes, view)


def _pack_blosc(cells: np.ndarray) -> bytes:
    shuffle = blosc.SHUFFLE if cells.itemsize > 1 else blosc.NOSHUFFLE
    packed: bytes = blosc.compress(cells, b"lz4", BLOSC_LEVEL, shuffle, cells.nbytes)
    return packed


def _unpack_blosc(packed: memoryview, view: np.ndarray) -> None:
    # blosc takes the header at its word, which may be damaged
    if len(packed) < _BLOSC_HEADER.size:
        raise DamageError(f"a chunk of {len(packed)} bytes has no header")
    num_bytes, num_packed = _BLOSC_HEADER.unpack_from(packed)
    if num_packed != len(packed):
        raise DamageError("the header of the chunk states another length")
    _check_size(num_bytes, view)
    blosc.decompress(packed, view)


def _check_size(num_bytes: int, view: np.ndarray) -> None:
    if num_bytes != view.nbytes:
        raise DamageError(f"a chunk of {num_bytes} bytes where a slice has {view.nbytes}")


CODECS = {
    LZ4: ChunkCodec(pack=_pack_blosc, unpack=_unpack_blosc, share=0.93),
    ZSTD: ChunkCodec(pack=_pack_zstd, unpack=_unpack_zstd, share=0.76),
}
