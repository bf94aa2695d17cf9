"""Tables of a large shard set in mapped files of the cache folder, once for all processes.

The first process reads and checks the tables of the set, and writes the files; they are named after
what `shards.json` says of all files of the set, so another set is another file.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from datasets.shards.format import ShardManifest
from storage.checksums import digest_json
from storage.read.shared import derived_files
from storage.read.shared.column_file import open_columns, write_columns
from storage.read.shared.derived_files import open_or_make
from storage.read.shared.store_tables import SHARED_FROM

OBJECT_NO = "#object_no"  # column of the slices: the place in the manifest of a slice's shard
_PIECE = 2**18  # lines that are written at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SetTables:
    """Recordings of a set by `first_row`; slices by row, with `offset` and `OBJECT_NO`."""

    recordings: pl.DataFrame
    slices: pl.DataFrame


def open_tables(
    manifest: ShardManifest,
    folder: Path,
    url: str,
    *,
    read: Callable[[], SetTables],
    check: Callable[[], None],
) -> SetTables:
    """Maps the tables of a set of many slices; else returns what `read` reads and checks.

    `check` raises where the tables are not those that the manifest lists.
    """
    if sum(entry.num_slices for entry in manifest.shards.values()) < SHARED_FROM:
        return read()
    check()
    files = [[name, asdict(entry)] for name, entry in manifest.files.items()]  # in order
    key = digest_json([manifest.recipe.digest(), files])
    recordings = folder / f"{key}{derived_files.RECORDINGS}"
    slices = folder / f"{key}{derived_files.SLICES}"
    known: list[SetTables] = []

    def open_it() -> SetTables | None:
        found = open_columns(recordings), open_columns(slices)
        if found[0] is None or found[1] is None:
            return None
        return SetTables(recordings=found[0], slices=found[1])

    def make_it() -> bool:
        known.append(read())
        return _write(recordings, known[0].recordings) and _write(slices, known[0].slices)

    found = open_or_make(folder, f"tables of {url}", open_it, make_it)
    if found is not None:
        return found
    return known[0] if known else read()


def _write(path: Path, frame: pl.DataFrame) -> bool:
    return write_columns(path, frame.schema, len(frame), frame.iter_slices(_PIECE))
