"""A store of millions of slices, seeded, for queries: its tables, and the slices of one zarr shard.

The shape is that of BirdCLEF 2025: 206 species, 13 slices a recording on average, the columns of
train.csv and of taxonomy.csv.
"""

import google_crc32c
import numpy as np
import polars as pl

from storage.build.plan import part_slices
from storage.format.catalog import Catalog
from storage.format.chunk_codecs import DEFAULT_CODEC, encode_chunk
from storage.format.manifest import NAME as MANIFEST
from storage.format.manifest import Manifest
from storage.format.tables import (
    INDEX,
    RECORDINGS,
    REJECTS,
    SCHEMAS,
    STORED,
    encode_table,
    table_name,
)
from storage.format.zarr_shards import SLICES_PER_ZARR_SHARD, encode_shard, shard_name
from storage.objects.open import open_objects
from storage.objects.protocol import Objects
from storage.recipe import Recipe

NUM_SPECIES = 206
SLICES_PER_RECORDING = 13


def write_index(url: str, num_rows: int, seed: int) -> None:
    """Writes the manifest and the tables of a store of `num_rows` slices, in about 64 parts.

    Of the slices only those of the first zarr shard are there.
    """
    objects = open_objects(url)
    target = part_slices(num_rows)
    manifest = Manifest(
        store_id="synthetic", recipe=Recipe(), part_slices=target, codec=DEFAULT_CODEC
    )
    objects.put_new(MANIFEST, manifest.encode())
    rng = np.random.default_rng(seed)
    catalog = Catalog()
    shards_per_part = -(-target // SLICES_PER_ZARR_SHARD)  # each part begins with a zarr shard
    for part, written in enumerate(range(0, num_rows, target)):
        first_row = part * shards_per_part * SLICES_PER_ZARR_SHARD
        counts = slice_counts(min(target, num_rows - written), rng)
        recordings = _recordings(part, first_row, counts, rng)
        index = _index(recordings["recording_id"], first_row, counts, rng)
        if part == 0:
            index = _with_slices(objects, index, manifest.recipe, seed)
        tables = {
            RECORDINGS: recordings,
            REJECTS: pl.DataFrame(schema=SCHEMAS[REJECTS]),
            INDEX: index,
        }
        for table, frame in tables.items():
            objects.put_new(table_name(table, part), encode_table(frame))
        catalog.note_part(objects, part)
    catalog.put(objects)


def slice_counts(num_slices: int, rng: np.random.Generator) -> np.ndarray:
    """Draws the slices of each recording, at least one, `num_slices` in all."""
    num_recordings = max(1, num_slices // SLICES_PER_RECORDING)
    share = np.full(num_recordings, 1 / num_recordings)
    return 1 + rng.multinomial(num_slices - num_recordings, share)


def _recordings(
    part: int, first_row: int, counts: np.ndarray, rng: np.random.Generator
) -> pl.DataFrame:
    num = len(counts)
    species = rng.integers(NUM_SPECIES, size=num)
    labels = pl.Series("primary_label", [f"spec{number:03d}" for number in species.tolist()])
    names = pl.Series([f"XC{part:05d}{number:07d}" for number in range(num)])
    ids = labels + "/" + names
    duration_s = (counts + 1) * 2.5
    return pl.DataFrame(
        {
            "recording_id": ids,
            "primary_label": labels,
            "secondary_labels": pl.Series([[""]] * num, dtype=pl.List(pl.String)),
            "filename": ids + ".ogg",
            "duration_s": duration_s,
            "sample_rate_hz": pl.Series([32_000] * num, dtype=pl.Int32),
            "num_channels": pl.Series([1] * num, dtype=pl.Int32),
            "first_row": first_row + np.cumsum(counts) - counts,
            "num_slices": counts.astype(np.int32),
            "status": [STORED] * num,
            "duplicate_of": pl.Series([None] * num, dtype=pl.String),
            "content_hash": [rng.bytes(16).hex() for _ in range(num)],
            "size_bytes": (duration_s * 8000).astype(np.int64),
            # from here on the user's own columns
            "collection": ["XC"] * num,
            "rating": rng.integers(0, 11, num) / 2,
            "url": "https://example.org/" + names,
            "latitude": rng.uniform(-35, 60, num),
            "longitude": rng.uniform(-120, 150, num),
            "scientific_name": [f"Avis species{number}" for number in species.tolist()],
            "common_name": [f"Bird number {number}" for number in species.tolist()],
            "author": [f"Recordist {n}" for n in rng.integers(500, size=num).tolist()],
            "license": ["CC BY-NC-SA 4.0"] * num,
        },
        schema_overrides=SCHEMAS[RECORDINGS],
    )


def _index(
    recording_id: pl.Series, first_row: int, counts: np.ndarray, rng: np.random.Generator
) -> pl.DataFrame:
    size = int(counts.sum())
    recording = np.repeat(np.arange(len(counts)), counts)
    slice_no = np.arange(size) - (np.cumsum(counts) - counts)[recording]
    max_db = rng.uniform(-60, 20, size)
    return pl.DataFrame(
        {
            "row": first_row + np.arange(size),
            "recording_id": recording_id.gather(recording),
            "slice_no": slice_no.astype(np.int32),
            "start_s": slice_no * 2.5,
            "max_db": max_db,
            "mean_db": max_db - rng.uniform(10, 50, size),
            "active_share": rng.uniform(0, 1, size),
            "centroid_hz": rng.uniform(300, 9000, size),
            "peak_hz": rng.uniform(100, 12_000, size),
            "silent": np.zeros(size, bool),
            "crc32c": rng.integers(0, 2**32, size, np.uint32),
        },
        schema=SCHEMAS[INDEX],
    )


def _with_slices(objects: Objects, index: pl.DataFrame, recipe: Recipe, seed: int) -> pl.DataFrame:
    """Writes the slices of the first rows as a zarr shard; the index with their checksums.

    Their cells are noise of 7 bits: compressed, they are a little larger than slices of recordings.
    """
    count = min(len(index), SLICES_PER_ZARR_SHARD)
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 128, (count, *recipe.slice_shape), recipe.dtype)
    chunks = [encode_chunk(one, DEFAULT_CODEC) for one in cells]
    objects.put_new(shard_name(0), encode_shard(chunks, recipe, DEFAULT_CODEC))
    sums = index["crc32c"].to_numpy().copy()
    sums[:count] = [google_crc32c.value(one.tobytes()) for one in cells]
    return index.with_columns(pl.Series("crc32c", sums))
