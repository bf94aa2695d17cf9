"""`zarr.json` of the slice array, written by zarr-python itself."""

from typing import TYPE_CHECKING, Any

from storage.errors import DamageError
from storage.format.chunk_codecs import BLOSC_LEVEL, ZSTD, ZSTD_LEVEL
from storage.format.manifest import Manifest
from storage.format.zarr_shards import ARRAY_METADATA, SLICES_PER_ZARR_SHARD
from storage.untrusted import MAX_ROW, parse_json, whole_of

if TYPE_CHECKING:
    from zarr.codecs import BloscCodec, ZstdCodec


def array_metadata(manifest: Manifest, num_shards: int) -> bytes:
    """`zarr.json` of an array of `num_shards` zarr shards, as zarr-python writes it.

    Its attributes repeat `melbank.json`, so that either can be restored from the other.
    """
    import zarr  # a third of a second, which reading can do without
    from zarr.codecs import Crc32cCodec

    recipe = manifest.recipe
    objects: dict[str, Any] = {}
    zarr.create_array(
        objects,
        shape=(num_shards * SLICES_PER_ZARR_SHARD, *recipe.slice_shape),
        shards=(SLICES_PER_ZARR_SHARD, *recipe.slice_shape),
        chunks=(1, *recipe.slice_shape),
        dtype=recipe.dtype,
        compressors=[_compressor(manifest), Crc32cCodec()],
        fill_value=0,
        dimension_names=["row", "mel", "frame"],
        attributes={"melbank": manifest.to_dict()},
    )
    document: bytes = objects["zarr.json"].to_bytes()
    return document


def _compressor(manifest: Manifest) -> "BloscCodec | ZstdCodec":
    """The codec of a store's chunks, as zarr-python has it."""
    from zarr.codecs import BloscCodec, ZstdCodec

    if manifest.codec == ZSTD:
        return ZstdCodec(level=ZSTD_LEVEL, checksum=False)
    itemsize = manifest.recipe.dtype.itemsize
    return BloscCodec(
        typesize=itemsize,
        cname="lz4",
        clevel=BLOSC_LEVEL,
        shuffle="shuffle" if itemsize > 1 else "noshuffle",
        blocksize=manifest.recipe.slice_bytes,
    )


def num_shards_of(metadata: bytes) -> int:
    """Number of zarr shards that a `zarr.json` spans."""
    try:
        num_rows = whole_of({"shape": parse_json(metadata)["shape"][0]}, "shape", most=MAX_ROW)
        return -(-num_rows // SLICES_PER_ZARR_SHARD)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise DamageError(
            f"{ARRAY_METADATA} is damaged ({error}): run tools.verify --repair"
        ) from error
