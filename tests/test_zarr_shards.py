"""Our zarr shards are byte for byte those of zarr-python."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from storage.errors import DamageError
from storage.manifest import Manifest
from storage.recipe import Recipe
from storage.zarr_array import array_metadata, num_shards_of
from storage.zarr_shards import (
    INDEX_BYTES,
    SLICES_PER_ZARR_SHARD,
    decode_index,
    encode_chunk,
    encode_shard,
    shard_name,
)

SMALL = {"n_mels": 8, "slice_s": 0.1, "slice_step_s": 0.1, "tail_min_s": 0.0}


def array_on_disk(root: Path, recipe: Recipe) -> zarr.Array:
    (root / "slices.zarr").mkdir()
    manifest = Manifest(store_id="0", recipe=recipe, part_slices=256)
    (root / "slices.zarr" / "zarr.json").write_bytes(array_metadata(manifest, 1))
    return zarr.open_array(root / "slices.zarr", mode="r+")


@pytest.mark.parametrize("encoding", ["uint8", "float16", "float32"])
def test_bytes_are_those_of_zarr_python(encoding: str, tmp_path: Path) -> None:
    recipe = Recipe(encoding=encoding, **SMALL)
    shape = (SLICES_PER_ZARR_SHARD, *recipe.slice_shape)
    cells = (np.random.default_rng(0).random(shape) * 200 + 1).astype(recipe.dtype)
    array = array_on_disk(tmp_path, recipe)
    array[:] = cells
    ours = encode_shard([encode_chunk(one) for one in cells], recipe)
    assert (tmp_path / shard_name(0)).read_bytes() == ours


def test_a_shard_is_filled_up_with_zeros(tmp_path: Path) -> None:
    recipe = Recipe(**SMALL)
    cells = np.full((3, *recipe.slice_shape), 7, np.uint8)
    array = array_on_disk(tmp_path, recipe)
    (tmp_path / shard_name(0)).parent.mkdir(parents=True)
    (tmp_path / shard_name(0)).write_bytes(
        encode_shard([encode_chunk(one) for one in cells], recipe)
    )
    assert np.array_equal(array[:3], cells)
    assert not array[3:].any()


def test_index_places_every_chunk() -> None:
    recipe = Recipe(**SMALL)
    cells = np.arange(2 * recipe.slice_bytes, dtype=np.uint8).reshape(2, *recipe.slice_shape)
    chunks = [encode_chunk(one) for one in cells]
    data = encode_shard(chunks, recipe)
    pairs = decode_index(data[-INDEX_BYTES:], "it")
    for (offset, length), chunk in zip(pairs[:2].tolist(), chunks, strict=True):
        assert data[offset : offset + length] == chunk


@pytest.mark.parametrize("place", [0, 7, INDEX_BYTES - 5, INDEX_BYTES - 1])
def test_a_flipped_index_is_damage(place: int) -> None:
    tail = bytearray(encode_shard([], Recipe(**SMALL))[-INDEX_BYTES:])
    tail[place] ^= 1
    with pytest.raises(DamageError, match="checksum"):
        decode_index(bytes(tail), "it")


def test_metadata_tells_the_shape_and_carries_the_recipe() -> None:
    manifest = Manifest(store_id="0", recipe=Recipe(), part_slices=256)
    document = array_metadata(manifest, 3)
    assert num_shards_of(document) == 3
    assert json.loads(document)["shape"] == [3 * SLICES_PER_ZARR_SHARD, 128, 313]
    assert json.loads(document)["attributes"]["melbank"]["recipe"]["hop"] == 512
