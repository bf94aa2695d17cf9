"""One shard as bytes: the slices of some recordings in a WebDataset tar, and where each lies."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from webdataset import TarWriter

from datasets.shard_format import describe_sample, npy_header, padded, sample_key
from datasets.slice_source import SliceSource
from storage.errors import StoreError
from storage.extents import ExtentReader
from storage.progress import Step

_BATCH_SLICES = 256


def encode_shard(
    source: SliceSource, recordings: pl.DataFrame, name: str, step: Step
) -> tuple[bytes, pl.DataFrame]:
    """A whole tar of these recordings, and its lines of the side index."""
    index = _lines_of(source.slice_index(), recordings)
    if len(index) != recordings["num_slices"].sum():
        raise StoreError(f"{source.url}: the index and the recordings differ in {name}; verify it")
    by_id = {line["recording_id"]: line for line in recordings.to_dicts()}
    header = npy_header(source.recipe)
    member_bytes = padded(len(header) + source.recipe.slice_bytes)
    offsets = []
    buffer = io.BytesIO()
    with TarWriter(buffer, encoder=False, mtime=0, user="melbank", group="melbank") as tar:
        for line, cells in _read_slices(source, index, step):
            recording_id = line["recording_id"]
            tar.write(
                {
                    "__key__": sample_key(recording_id, line["slice_no"]),
                    "json": describe_sample(by_id[recording_id], line),
                    "mel.npy": header + cells,
                }
            )  # in this order: the .npy member is the last thing written
            offsets.append(tar.tarstream.offset - member_bytes + len(header))
    place = index.select(
        shard=pl.lit(name),
        offset=pl.Series(offsets, dtype=pl.Int64),
        length=pl.lit(source.recipe.slice_bytes, pl.Int64),
    )
    return buffer.getvalue(), pl.concat([place, index], how="horizontal")


def _lines_of(slice_index: pl.DataFrame, recordings: pl.DataFrame) -> pl.DataFrame:
    """The lines of a slice index that are these recordings'; both sorted by row."""
    rows = slice_index["row"]
    low = rows.search_sorted(recordings["first_row"][0])
    high = rows.search_sorted(recordings["first_row"][-1] + recordings["num_slices"][-1])
    return slice_index[low:high].join(
        recordings.select("recording_id"), on="recording_id", how="semi", maintain_order="left"
    )


def _read_slices(
    source: SliceSource, index: pl.DataFrame, step: Step
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The lines of the index, each with the cells of its slice."""
    with ExtentReader() as reader:
        for lines in index.iter_slices(_BATCH_SLICES):
            out = np.empty((len(lines), *source.recipe.slice_shape), source.recipe.dtype)
            reader.read(source.extents(lines["row"].to_numpy()), out)
            for line, cells in zip(lines.iter_rows(named=True), out, strict=True):
                yield line, cells.tobytes()
            step(len(lines))
