"""Every codec gives the cells back, in bytes that depend on them alone, and damage is an error."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numcodecs import blosc, zstd

from storage.checksums import ends_with_crc32c
from storage.errors import DamageError
from storage.format.chunk_codecs import (
    CODECS,
    LZ4,
    ZSTD,
    ZSTD_LEVEL,
    decode_chunk,
    encode_chunk,
)

each_codec = pytest.mark.parametrize("codec", CODECS)


def like_bands(seed: int = 0) -> np.ndarray:
    """A slice whose bands have values of their own."""
    rng = np.random.default_rng(seed)
    level_M = np.repeat([20, 60, 120, 200], 32)[:, None]
    return (level_M + rng.normal(0, 6, (128, 313))).astype(np.uint8)


def decoded(packed: bytes, codec: str, like: np.ndarray) -> np.ndarray:
    out = np.zeros_like(like)
    decode_chunk(packed, codec, out.reshape(-1).view(np.uint8))
    return out


@each_codec
@given(
    cells=arrays.arrays(
        st.sampled_from([np.uint8, np.float16, np.float32]),
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=40),
    )
)
def test_the_cells_come_back(codec: str, cells: np.ndarray) -> None:
    packed = encode_chunk(cells, codec)
    assert ends_with_crc32c(packed)
    assert decoded(packed, codec, cells).tobytes() == cells.tobytes()
    assert decoded(memoryview(packed), codec, cells).tobytes() == cells.tobytes()


@each_codec
@pytest.mark.parametrize("shape", [(128, 313), (128, 5000)], ids=["5 s", "80 s"])
def test_threads_change_nothing(codec: str, shape: tuple[int, int]) -> None:
    cells = [np.resize(like_bands(seed), shape) for seed in range(8)]
    alone = [encode_chunk(one, codec) for one in cells]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda one: encode_chunk(one, codec), cells)) == alone
        found = threads.map(lambda packed, one: decoded(packed, codec, one), alone, cells)
        assert all(np.array_equal(*pair) for pair in zip(found, cells, strict=True))


@each_codec
def test_no_damage_passes_for_a_slice_of_another_size(codec: str) -> None:
    cells = like_bands()
    packed = encode_chunk(cells, codec)
    for other in (cells[:-1], np.concatenate([cells, cells[:1]])):
        with pytest.raises((DamageError, RuntimeError, ValueError)):
            decoded(packed, codec, other)
    for length in (0, 3, 4, 5, 12, 20, 24, len(packed) // 2):
        with pytest.raises((DamageError, RuntimeError, ValueError)):
            decoded(packed[:length] + packed[-4:] * (length > 4), codec, cells)


@each_codec
@given(data=st.data())
def test_changed_bytes_are_an_error_or_other_cells(codec: str, data: st.DataObject) -> None:
    """Cells that differ without an error are found by the crc32c in the index."""
    cells = like_bands()
    packed = bytearray(encode_chunk(cells, codec))
    near = st.one_of(st.integers(0, 40), st.integers(0, len(packed) - 5))
    for place in data.draw(st.lists(near, min_size=1, max_size=4)):
        packed[place] = data.draw(st.integers(0, 255))
    with suppress(DamageError, RuntimeError, ValueError):
        decoded(bytes(packed), codec, cells)


def test_blocks_of_their_own_save_bytes_where_the_bands_differ() -> None:
    cells = like_bands()
    assert len(encode_chunk(cells, ZSTD)) < 0.9 * len(zstd.compress(cells, ZSTD_LEVEL))


def test_frames_and_containers_are_ordinary() -> None:
    cells = like_bands()
    frame, container = (encode_chunk(cells, codec)[:-4] for codec in (ZSTD, LZ4))
    assert zstandard.ZstdDecompressor().decompress(frame) == cells.tobytes()
    assert blosc.decompress(container) == cells.tobytes()
