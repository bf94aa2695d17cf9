"""State of a store: its committed recordings, and those that a source would add. Writes nothing."""

from dataclasses import dataclass

import polars as pl

from storage.format.tables import (
    DUPLICATE,
    INDEX,
    PART,
    RECORDINGS,
    REJECTS,
    GetMany,
    read_several,
    table_numbers,
)
from storage.objects.protocol import Objects


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreState:
    """The committed parts with their recordings and rejects, each row with its `PART`."""

    parts: list[int]
    recordings: pl.DataFrame
    rejects: pl.DataFrame

    def live_recordings(self) -> pl.DataFrame:
        """One row per recording: the newest part's, where a replacement has just come."""
        ordered = self.recordings
        if not ordered[PART].is_sorted():
            ordered = ordered.sort(PART)
        if ordered["recording_id"].n_unique() == len(ordered):
            return ordered  # nearly always, and told in a tenth of the time
        return ordered.unique("recording_id", keep="last", maintain_order=True)

    def updated(self, objects: Objects) -> "StoreState":
        """Returns the state with what was committed since; reads the tables of new parts only."""
        parts = table_numbers(objects, INDEX)
        new = read_parts(objects, [part for part in parts if part not in self.parts])
        return StoreState(
            parts=parts,
            recordings=_joined(self.recordings, new.recordings, parts),
            rejects=_joined(self.rejects, new.rejects, parts),
        )


def read_state(objects: Objects, get_many: GetMany | None = None) -> StoreState:
    """Reads what is committed: parts that have an index file."""
    return read_parts(objects, table_numbers(objects, INDEX), get_many)


def read_parts(objects: Objects, parts: list[int], get_many: GetMany | None = None) -> StoreState:
    """Reads the recordings and rejects of some parts; `get_many` as in `read_tables`."""
    recordings, rejects = read_several(objects, (RECORDINGS, REJECTS), parts, get_many)
    return StoreState(parts=parts, recordings=recordings, rejects=rejects)


def pending_recordings(wanted: pl.DataFrame, state: StoreState, *, twice: bool) -> pl.DataFrame:
    """The wanted recordings that are not in the store as they are now.

    `wanted` is a probed source. A recording is done when the store has it with the same content
    hash, stored, rejected, or as the duplicate of the same other one; also when its file is gone
    but its slices are there. `twice` stores equal files again. Adds `duplicate_of`; `reason`
    becomes null or why the file cannot be used.
    """
    wanted = wanted.with_columns(pl.coalesce("reason", "problem").alias("reason"))
    live = state.live_recordings()
    wanted = wanted.join(
        _keepers(wanted, live), on="content_hash", how="left", maintain_order="left"
    ).with_columns(
        pl.when((pl.col("keeper") != pl.col("recording_id")) & pl.lit(not twice))
        .then("keeper")
        .alias("duplicate_of")
    )
    keys = ["recording_id", "content_hash", "duplicate_of"]
    done_as_is = wanted.join(live.select(keys), on=keys, how="semi", nulls_equal=True)
    in_store = live.filter(pl.col("status") != DUPLICATE).select("recording_id")
    file_gone = wanted.filter(
        pl.col("content_hash").is_null()
        & pl.col("recording_id").is_in(in_store["recording_id"].implode())
    )
    refused = state.rejects.filter(~pl.col("partial"))
    keys = ["recording_id", "filename", "content_hash"]
    done_rejected = wanted.join(refused.select(keys), on=keys, how="semi", nulls_equal=True)
    names = [
        frame.select("recording_id", "filename") for frame in (done_as_is, file_gone, done_rejected)
    ]
    done = pl.concat(names)
    return wanted.join(
        done, on=["recording_id", "filename"], how="anti", maintain_order="left"
    ).drop("keeper")


def _joined(known: pl.DataFrame, new: pl.DataFrame, parts: list[int]) -> pl.DataFrame:
    there = known.filter(pl.col(PART).is_in(parts))
    return pl.concat([there, new], how="diagonal_relaxed").sort(PART, maintain_order=True)


def _keepers(wanted: pl.DataFrame, live: pl.DataFrame) -> pl.DataFrame:
    """Finds the recording that keeps the slices of each content: one in the store, or the first."""
    usable = wanted.filter(pl.col("reason").is_null()).select("recording_id", "content_hash")
    stored = live.filter(pl.col("status") != DUPLICATE).select(
        "recording_id", "content_hash", pl.lit(True).alias("stored")
    )
    ranked = usable.join(stored, on=["recording_id", "content_hash"], how="left").sort(
        "stored", "recording_id", nulls_last=True
    )
    first = ranked.group_by("content_hash", maintain_order=True).first()
    return first.select("content_hash", pl.col("recording_id").alias("keeper"))
