"""Zarr v3 shards, encoded whole and read by index.

A zarr shard holds 1,024 inner chunks of one slice each, as `chunk_codecs` packs them; after them
an index of (offset, length) pairs, uint64 little endian, with its own crc32c (Zarr v3 sharding
codec 1.0). zarr-python reads and writes such shards; the tests hold us to that.
"""

import numpy as np

from storage.checksums import crc32c_bytes
from storage.errors import DamageError
from storage.format.chunk_codecs import encode_chunk
from storage.recipe import Recipe

ARRAY = "slices.zarr"
ARRAY_METADATA = f"{ARRAY}/zarr.json"
SLICES_PER_ZARR_SHARD = 1024
INDEX_BYTES = 16 * SLICES_PER_ZARR_SHARD + 4
MISSING = 2**64 - 1
MAX_SHARD_BYTES = 2**48
CHUNK_OVERHEAD_BYTES = 4096  # of an inner chunk over its slice, at most


def shard_name(shard_no: int) -> str:
    """The object name of a zarr shard."""
    return f"{ARRAY}/c/{shard_no}/0/0"


def encode_shard(chunks: list[bytes], recipe: Recipe, codec: str) -> bytes:
    """A zarr shard of up to 1,024 chunks, filled up with slices of zeros."""
    empty = encode_chunk(np.zeros(recipe.slice_shape, recipe.dtype), codec)
    chunks = chunks + [empty] * (SLICES_PER_ZARR_SHARD - len(chunks))
    lengths = np.array([len(chunk) for chunk in chunks], "<u8")
    index = np.stack([np.cumsum(lengths) - lengths, lengths], axis=1).astype("<u8").tobytes()
    return b"".join([*chunks, index, crc32c_bytes(index)])


def decode_index(tail: bytes, name: str) -> np.ndarray:
    """(offset, length) of each chunk, int64 [1024, 2], from the last bytes of a zarr shard."""
    if len(tail) != INDEX_BYTES or crc32c_bytes(tail[:-4]) != tail[-4:]:
        raise DamageError(f"the index at the end of {name} is damaged: its checksum differs")
    pairs = np.frombuffer(tail, "<u8", count=2 * SLICES_PER_ZARR_SHARD).reshape(-1, 2)
    if (pairs == MISSING).any():
        raise DamageError(f"{name} has empty chunks, which melbank never writes")
    if pairs.max() >= MAX_SHARD_BYTES:
        raise DamageError(
            f"{name} has chunks beyond the {MAX_SHARD_BYTES:,} bytes that it may have"
        )
    return pairs.astype(np.int64)


def chunk_edges(pairs: np.ndarray, name: str, slice_bytes: int) -> np.ndarray:
    """(offset, length) of chunks that are contiguous as the n + 1 edges between them.

    uint32 where that is enough: a quarter of the memory. Raises DamageError on chunks with gaps,
    and on those that are far longer than a slice that does not compress.
    """
    if pairs[:, 1].max() > 2 * slice_bytes + CHUNK_OVERHEAD_BYTES:
        raise DamageError(f"{name} has chunks that are longer than slices of {slice_bytes:,} bytes")
    begins, ends = pairs[:, 0], pairs.sum(axis=1)
    if not np.array_equal(begins[1:], ends[:-1]):
        raise DamageError(f"the chunks of {name} are not contiguous, as melbank writes them")
    edges = np.append(begins, ends[-1])
    return edges.astype(np.uint32) if edges[-1] < 2**32 else edges
