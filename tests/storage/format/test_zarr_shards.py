"""Our zarr shards are those of zarr-python, but for smaller blocks inside its zstd frames."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from storage.errors import DamageError
from storage.format.chunk_codecs import CODECS, DEFAULT_CODEC, decode_chunk, encode_chunk
from storage.format.manifest import Manifest
from storage.format.zarr_metadata import array_metadata, num_shards_of
from storage.format.zarr_shards import (
    INDEX_BYTES,
    SLICES_PER_ZARR_SHARD,
    chunk_edges,
    decode_index,
    encode_shard,
    shard_name,
)
from storage.recipe import Recipe

SMALL = {"n_mels": 8, "slice_s": 0.1, "slice_step_s": 0.1, "tail_min_s": 0.0}


def array_on_disk(root: Path, recipe: Recipe, codec: str = DEFAULT_CODEC) -> zarr.Array:
    (root / "slices.zarr").mkdir()
    manifest = Manifest(store_id="0", recipe=recipe, part_slices=256, codec=codec)
    (root / "slices.zarr" / "zarr.json").write_bytes(array_metadata(manifest, 1))
    return zarr.open_array(root / "slices.zarr", mode="r+")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("encoding", ["uint8", "float16", "float32"])
def test_zarr_python_reads_what_we_write_and_we_what_it_writes(
    encoding: str, codec: str, tmp_path: Path
) -> None:
    recipe = Recipe(encoding=encoding, **SMALL)
    shape = (SLICES_PER_ZARR_SHARD, *recipe.slice_shape)
    cells = (np.random.default_rng(0).random(shape) * 200 + 1).astype(recipe.dtype)
    array = array_on_disk(tmp_path, recipe, codec)
    array[:] = cells
    file = tmp_path / shard_name(0)
    pairs = decode_index(file.read_bytes()[-INDEX_BYTES:], "it")
    for (offset, length), slice_MT in zip(pairs, cells, strict=True):
        out = np.empty(recipe.slice_bytes, np.uint8)
        decode_chunk(file.read_bytes()[offset : offset + length], codec, out)
        assert out.tobytes() == slice_MT.tobytes()
    chunks = [encode_chunk(one, codec) for one in cells[::-1]]
    file.write_bytes(encode_shard(chunks, recipe, codec))
    assert np.array_equal(array[:], cells[::-1])


def test_a_shard_is_filled_up_with_zeros(tmp_path: Path) -> None:
    recipe = Recipe(**SMALL)
    cells = np.full((3, *recipe.slice_shape), 7, np.uint8)
    array = array_on_disk(tmp_path, recipe)
    (tmp_path / shard_name(0)).parent.mkdir(parents=True)
    (tmp_path / shard_name(0)).write_bytes(
        encode_shard([encode_chunk(one, DEFAULT_CODEC) for one in cells], recipe, DEFAULT_CODEC)
    )
    assert np.array_equal(array[:3], cells)
    assert not array[3:].any()


def test_index_places_every_chunk() -> None:
    recipe = Recipe(**SMALL)
    cells = np.arange(2 * recipe.slice_bytes, dtype=np.uint8).reshape(2, *recipe.slice_shape)
    chunks = [encode_chunk(one, DEFAULT_CODEC) for one in cells]
    data = encode_shard(chunks, recipe, DEFAULT_CODEC)
    pairs = decode_index(data[-INDEX_BYTES:], "it")
    for (offset, length), chunk in zip(pairs[:2].tolist(), chunks, strict=True):
        assert data[offset : offset + length] == chunk


@pytest.mark.parametrize("place", [0, 7, INDEX_BYTES - 5, INDEX_BYTES - 1])
def test_a_flipped_index_is_damage(place: int) -> None:
    tail = bytearray(encode_shard([], Recipe(**SMALL), DEFAULT_CODEC)[-INDEX_BYTES:])
    tail[place] ^= 1
    with pytest.raises(DamageError, match="checksum"):
        decode_index(bytes(tail), "it")


def test_edges_are_as_small_as_the_shard_allows() -> None:
    pairs = np.array([[7, 3], [10, 5], [15, 1]])
    assert chunk_edges(pairs, "it", 100).tolist() == [7, 10, 15, 16]
    assert chunk_edges(pairs, "it", 100).dtype == np.uint32
    far = chunk_edges(pairs + np.array([2**32, 0]), "it", 100)
    assert (far.dtype, far[0]) == (np.int64, 2**32 + 7)
    with pytest.raises(DamageError, match="it are not contiguous"):
        chunk_edges(pairs[[0, 2, 1]], "it", 100)


def test_metadata_tells_the_shape_and_carries_the_recipe() -> None:
    manifest = Manifest(store_id="0", recipe=Recipe(), part_slices=256)
    document = array_metadata(manifest, 3)
    assert num_shards_of(document) == 3
    assert json.loads(document)["shape"] == [3 * SLICES_PER_ZARR_SHARD, 128, 313]
    assert json.loads(document)["attributes"]["melbank"]["recipe"]["hop"] == 512
