"""Refuses results of another store: a row is another slice there."""

import polars as pl

from datasets.slice_source import SOURCE
from storage.errors import ConfigError
from storage.store import Store

NUM_COMPARED = 1000


def check_same_store(results: pl.LazyFrame, store: Store, key: str) -> None:
    """ConfigError, with `key`, unless lines of `results` have the recordings of their rows.

    A thousand lines, evenly spread, are compared; those of rows that the store no longer has are
    passed over, where others are there. Of results of several sources one has to be the store.
    """
    columns = results.collect_schema().names()
    if not {"row", "recording_id"}.issubset(columns):
        return
    count = results.select(pl.len()).collect().item()
    source = pl.col(SOURCE) if SOURCE in columns else pl.lit("")
    lines = results.select("row", "recording_id", source.alias(SOURCE))
    some = lines.gather_every(max(1, count // NUM_COMPARED)).collect()
    here = store.slice_table().filter(pl.col("row").is_in(some["row"].implode()))
    found = some.join(here.select("row", here="recording_id").collect(), on="row")
    renamed = pl.concat_str(SOURCE, pl.lit("/"), "here")  # as a mix does, see `SourceMix`
    others = found.filter(
        pl.col("recording_id") != pl.col("here"), pl.col("recording_id") != renamed
    )
    if len(some) and not set(found[SOURCE]) - set(others[SOURCE]):
        example = ""
        if len(others):
            row, recording_id, _, own = others.row(0)
            example = f" (slice {row} is of {recording_id}, and here of {own})"
        raise ConfigError(
            f"{key} is of another store than {store.url}{example}: give the store that it was made "
            "from"
        )
