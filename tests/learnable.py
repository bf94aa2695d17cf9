"""A source whose labels can be heard: each has its own mel bands, under noise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from storage.checksums import crc32c
from storage.recipe import Recipe
from tests.fakes import SMALL, FakeSource, write_fake_source


def write_learnable_source(
    path: Path, num_recordings: int, *, seed: int = 0, recipe: Recipe = SMALL
) -> FakeSource:
    """Recordings of 1 to 4 slices, three labels, no secondary ones; column `fold` of 1 to 3."""
    generator = np.random.default_rng(seed)
    num_slices = generator.integers(1, 5, num_recordings).tolist()
    source = write_fake_source(path, num_slices, seed=seed, recipe=recipe)
    table = source.table.with_columns(
        secondary_labels=pl.lit([], dtype=pl.List(pl.String)),
        fold=pl.int_range(pl.len()) // 3 % 3 + 1,
    )
    label_no = np.repeat(table["primary_label"].rank("dense").to_numpy() - 1, num_slices)
    cells = generator.integers(0, 120, (len(label_no), *recipe.slice_shape), np.uint8)
    for label in range(3):
        cells[label_no == label, 2 * label : 2 * label + 3] += 100
    path.write_bytes(cells.tobytes())
    sums = [crc32c(cell.tobytes()) for cell in cells]
    index = source.index.with_columns(crc32c=pl.Series(sums, dtype=pl.UInt32))
    return replace(source, table=table, index=index, cells=cells)
