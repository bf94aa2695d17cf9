"""Reconciles the tables of committed parts with the source, without touching the array.

Recordings that are no longer wanted, or have been replaced by a newer part, lose their rows;
metadata follow the csv. Only Parquet files that differ are rewritten: recordings first, so that a
reader, who joins the two, at once sees what is left.
"""

import polars as pl

from storage.errors import ConfigError
from storage.format.catalog import Catalog
from storage.format.state import StoreState
from storage.format.tables import (
    INDEX,
    PART,
    RECORDING_SCHEMA,
    RECORDINGS,
    REJECTS,
    TABLES,
    decode_table,
    encode_table,
    join_parts,
    table_name,
)
from storage.objects.protocol import Objects
from storage.source.table import Source


def check_drop(state: StoreState, source: Source, max_share: float) -> int:
    """Counts live recordings that the source lacks; ConfigError where they are too many."""
    have = state.live_recordings()["recording_id"]
    dropped = int((~have.is_in(source.recordings["recording_id"].implode())).sum())
    if dropped > max_share * len(have):
        raise ConfigError(
            f"the source lacks {dropped:,} of the {len(have):,} recordings in the store; more "
            f"than build.max_drop_share={max_share:g} are dropped only when told so: check "
            "source.root, or give build.max_drop_share=1"
        )
    return dropped


def settle(
    objects: Objects, state: StoreState, source: Source, probed: pl.DataFrame, catalog: Catalog
) -> StoreState:
    """Rewrites the tables that differ; returns the state of the store that they make.

    Here the files themselves are read once more: what is compared is their bytes.
    """
    live = state.live_recordings()
    metadata = source.metadata
    rejects = _live_rejects(state.rejects, source, probed)
    listed = {name for table in TABLES for name in objects.list(table)}
    settled: dict[str, list[pl.DataFrame]] = {RECORDINGS: [], REJECTS: []}
    for part in state.parts:
        names = [table_name(table, part) for table in TABLES]
        present = [name for name in names if name in listed]
        current = dict(zip(present, objects.get_many(present), strict=True))
        kept = live.filter(pl.col(PART) == part).select(*RECORDING_SCHEMA)
        kept = kept.join(metadata, on="recording_id", how="semi", maintain_order="left")
        index = table_name(INDEX, part)
        old_rows = decode_table(INDEX, current[index], objects.describe(index))
        tables = {
            RECORDINGS: with_metadata(kept, metadata),
            INDEX: old_rows.join(kept, on="recording_id", how="semi", maintain_order="left"),
            REJECTS: rejects.filter(pl.col(PART) == part).drop(PART),
        }
        encoded = {table_name(table, part): encode_table(frame) for table, frame in tables.items()}
        changed = {name: data for name, data in encoded.items() if current.get(name) != data}
        if changed:
            _put_changed(objects, catalog, part, changed)
        for table, frames in settled.items():
            frames.append(tables[table].with_columns(pl.lit(part, pl.Int32).alias(PART)))
    return StoreState(
        parts=state.parts,
        recordings=join_parts(RECORDINGS, settled[RECORDINGS]),
        rejects=join_parts(REJECTS, settled[REJECTS]),
    )


def with_metadata(recordings: pl.DataFrame, metadata: pl.DataFrame) -> pl.DataFrame:
    """Recordings with the csv's columns, as given: our own columns first, theirs after.

    `metadata` has each of the recordings once. Its columns are taken by position, as their names
    may mean something to Polars' expressions.
    """
    numbers = metadata.select("recording_id").with_row_index("number")
    found = recordings.select("recording_id").join(
        numbers, on="recording_id", how="left", maintain_order="left"
    )
    given = {column.name: column for column in metadata[found["number"]].get_columns()}
    ours = {name: given.get(name, recordings[name]) for name in RECORDING_SCHEMA}
    return pl.DataFrame({**ours, **given})


def _put_changed(objects: Objects, catalog: Catalog, part: int, changed: dict[str, bytes]) -> None:
    """Rewrites tables of a part; the catalogue lists them before and after."""
    for name, data in changed.items():
        catalog.announce(name, data)
    catalog.put(objects)
    for name, data in changed.items():
        objects.put(name, data)
    catalog.note_part(objects, part)
    catalog.put(objects)


def _live_rejects(rejects: pl.DataFrame, source: Source, probed: pl.DataFrame) -> pl.DataFrame:
    """Returns the rejects that are about a file as it is now."""
    keys = ["recording_id", "filename"]
    known = source.recordings.select(keys)
    now = probed.select(*keys, pl.col("content_hash").alias("hash_now"), probed=True)
    joined = rejects.join(known, on=keys, how="semi", maintain_order="left")
    joined = joined.join(now, on=keys, how="left", maintain_order="left")
    same = pl.col("content_hash").eq_missing(pl.col("hash_now"))
    alive = joined.filter(pl.col("probed").is_null() | same).drop("hash_now", "probed")
    return alive.filter(pl.col(PART) == pl.col(PART).max().over(keys))
