"""The part of the recordings that `limit` takes: spread over the classes, and nested."""

import hashlib

import numpy as np
import polars as pl

from storage.errors import ConfigError


def limited(recordings: pl.DataFrame, limit: int | None) -> np.ndarray:
    """Positions of at most `limit` recordings, int64, increasing; of all of them without one.

    Each class is taken from once before any is twice, and so on; within a class, and where there
    are more classes than places, by a hash of the recording_id. A larger limit includes the
    recordings of a smaller one. Needs the columns recording_id and primary_label.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit={limit} must be at least 1")
    if limit is None or limit >= len(recordings):
        return np.arange(len(recordings), dtype=np.int64)
    keys = [
        hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        for name in recordings["recording_id"]
    ]
    ordered = (
        recordings.select("primary_label", pl.Series("key", keys, pl.String))
        .with_row_index("position")
        .sort("key", maintain_order=True)
        .with_columns(pl.int_range(pl.len()).over("primary_label").alias("turn"))
        .sort("turn", maintain_order=True)
    )
    return np.sort(ordered["position"].head(limit).to_numpy()).astype(np.int64)
