"""Keys of millions of recordings in a mapped file, once for all processes of a machine.

They are hashes of ids, 0.8 us each. The file is named after the sha256 of the ids.
"""

import hashlib

import numpy as np
import polars as pl

from datasets.randomness import IDS_AT_ONCE, recording_keys
from storage.objects.client import cache_root
from storage.read.shared.column_file import open_columns, write_columns
from storage.read.shared.derived_files import KEYS, open_or_make

KEPT_FROM = 500_000  # recordings; those of fewer are made in less time than a file takes
_KEY = pl.Schema({"key": pl.UInt64})


def find_keys(recordings: pl.DataFrame) -> np.ndarray:
    """Returns the keys of recordings, uint64 [n], as `recording_keys` makes them."""
    if len(recordings) < KEPT_FROM:
        return recording_keys(recordings)
    folder = cache_root() / "keys"
    path = folder / f"{_digest(recordings)}{KEYS}"
    found = open_or_make(
        folder,
        "keys of recordings",
        lambda: open_columns(path),
        lambda: write_columns(
            path,
            _KEY,
            len(recordings),
            (
                pl.DataFrame({"key": recording_keys(piece)}, schema=_KEY)
                for piece in recordings.select("recording_id").iter_slices(IDS_AT_ONCE)
            ),
        ),
    )
    return recording_keys(recordings) if found is None else found["key"].to_numpy()


def _digest(recordings: pl.DataFrame) -> str:
    hasher = hashlib.sha256()
    for piece in recordings.select("recording_id").iter_slices(IDS_AT_ONCE):
        ids = piece["recording_id"]
        hasher.update(ids.str.len_bytes().to_numpy().astype("<u4").tobytes())
        hasher.update(ids.str.join().item().encode())
    return hasher.hexdigest()
