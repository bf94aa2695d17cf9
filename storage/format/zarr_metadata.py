"""`zarr.json` of the slice array, written by zarr-python itself."""

from typing import Any

from storage.errors import DamageError
from storage.format.manifest import Manifest
from storage.format.zarr_shards import ARRAY_METADATA, SLICES_PER_ZARR_SHARD, ZSTD_LEVEL
from storage.untrusted import MAX_ROW, parse_json, whole_of


def array_metadata(manifest: Manifest, num_shards: int) -> bytes:
    """`zarr.json` of an array of `num_shards` zarr shards, as zarr-python writes it.

    Its attributes repeat `melbank.json`, so that either can be restored from the other.
    """
    import zarr  # a third of a second, which reading can do without
    from zarr.codecs import Crc32cCodec, ZstdCodec

    recipe = manifest.recipe
    objects: dict[str, Any] = {}
    zarr.create_array(
        objects,
        shape=(num_shards * SLICES_PER_ZARR_SHARD, *recipe.slice_shape),
        shards=(SLICES_PER_ZARR_SHARD, *recipe.slice_shape),
        chunks=(1, *recipe.slice_shape),
        dtype=recipe.dtype,
        compressors=[ZstdCodec(level=ZSTD_LEVEL, checksum=False), Crc32cCodec()],
        fill_value=0,
        dimension_names=["row", "mel", "frame"],
        attributes={"melbank": manifest.to_dict()},
    )
    document: bytes = objects["zarr.json"].to_bytes()
    return document


def num_shards_of(metadata: bytes) -> int:
    """Number of zarr shards that a `zarr.json` spans."""
    try:
        num_rows = whole_of({"shape": parse_json(metadata)["shape"][0]}, "shape", most=MAX_ROW)
        return -(-num_rows // SLICES_PER_ZARR_SHARD)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise DamageError(
            f"{ARRAY_METADATA} is damaged ({error}): run tools.verify --repair"
        ) from error
