"""Small visible fakes.

    source = write_fake_source(tmp_path / "cells.raw", [3, 1, 5], seed=1)

A `SliceSource` over one raw file of random slices, with gaps in its row numbers as a store has.
"""

from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
import polars as pl

from storage.objects.client import DEFAULT, RemoteConfig
from storage.read.cache_policy import ShardUse
from storage.read.extents import RAW, Extents
from storage.recipe import Recipe

SMALL = Recipe(sample_rate_hz=1000, n_fft=64, hop=32, n_mels=8, fmin_hz=0, fmax_hz=500, slice_s=0.5)
GAP_ROWS = 7  # between each recording and the next, so that a row is never a position by chance


@dataclass(frozen=True, kw_only=True)
class FakeSource:
    """Slices in one raw file, in the order of their rows."""

    url: str
    recipe: Recipe
    table: pl.DataFrame
    index: pl.DataFrame
    cells: np.ndarray
    store_id: str = "fa4e"
    remote: RemoteConfig = DEFAULT

    def recordings(self) -> pl.DataFrame:
        return self.table

    def slice_index(self, columns=None) -> pl.DataFrame:
        return self.index

    def extents(self, rows: np.ndarray) -> Extents:
        places = np.searchsorted(self.index["row"].to_numpy(), rows)
        assert np.array_equal(self.index["row"].to_numpy()[places], rows)
        return Extents(
            objects=(self.url,),
            object_no=np.zeros(len(rows), np.int32),
            offset=places * self.recipe.slice_bytes,
            length=np.full(len(rows), self.recipe.slice_bytes),
            crc32c=self.index["crc32c"].to_numpy()[places],
            codecs=(RAW,),
        )

    def shard_use(self, rows: np.ndarray) -> ShardUse:
        return ShardUse()

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The cells that these rows must give."""
        return self.cells[np.searchsorted(self.index["row"].to_numpy(), rows)]


def fake_recordings(num_slices: list[int], *, num_labels: int = 3) -> pl.DataFrame:
    """A recordings table: labels a, b, c, ... in turn; ids that are awkward on purpose."""
    count = len(num_slices)
    labels = [chr(ord("a") + number % num_labels) for number in range(count)]
    lengths = np.asarray(num_slices) + GAP_ROWS
    return pl.DataFrame(
        {
            "recording_id": [f"take {number}.5%é" for number in range(count)],
            "primary_label": labels,
            "secondary_labels": [[label for label in "ab" if label != own] for own in labels],
            "filename": [f"{label}/take {number}.ogg" for number, label in enumerate(labels)],
            "duration_s": [2.5 * length for length in num_slices],
            "sample_rate_hz": [1000] * count,
            "first_row": np.cumsum(lengths) - lengths + GAP_ROWS,
            "num_slices": num_slices,
            "rating": [float(number % 6) for number in range(count)],
        },
        schema_overrides={"num_slices": pl.Int32, "sample_rate_hz": pl.Int32},
    )


def fake_slice_index(table: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """The slices of recordings, in the order of the table, with random levels and silences."""
    generator = np.random.default_rng(seed)
    count = int(table["num_slices"].sum())
    return (
        table.select(
            row=pl.int_ranges("first_row", pl.col("first_row") + pl.col("num_slices")),
            recording_id="recording_id",
            slice_no=pl.int_ranges(0, "num_slices", dtype=pl.Int32),
        )
        .explode("row", "slice_no")
        .with_columns(
            max_db=pl.Series(generator.uniform(-80, 0, count)),
            silent=pl.Series(generator.random(count) < 0.4),
        )
    )


def write_fake_source(
    path: Path, num_slices: list[int], *, seed: int, recipe: Recipe = SMALL, num_labels: int = 3
) -> FakeSource:
    """Random slices for each recording, written to `path`."""
    generator = np.random.default_rng(seed)
    table = fake_recordings(num_slices, num_labels=num_labels)
    shape = (sum(num_slices), *recipe.slice_shape)
    if recipe.encoding == "uint8":
        cells = generator.integers(0, 256, shape, np.uint8)
    else:
        cells = generator.random(shape).astype(recipe.dtype)
    path.write_bytes(cells.tobytes())
    index = fake_slice_index(table).drop("max_db", "silent")
    index = index.with_columns(
        start_s=pl.col("slice_no") * 2.5,
        max_db=pl.Series(generator.uniform(-90, 0, len(index)), dtype=pl.Float32),
        crc32c=pl.Series([google_crc32c.value(cell.tobytes()) for cell in cells], dtype=pl.UInt32),
    )
    return FakeSource(url=str(path), recipe=recipe, table=table, index=index, cells=cells)
