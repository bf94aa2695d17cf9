"""Input and result of a build worker. Light to import: planning needs no torch."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from storage.audio.channels import MEAN
from storage.build.plan import PartRange
from storage.format.tables import RECORDING_SCHEMA
from storage.objects.client import DEFAULT, RemoteConfig
from storage.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class PartJob:
    """All that a worker needs.

    `recordings` has the plan's columns and `path`, `metadata` the columns of the csv, for each of
    them. `channel` as in `SourceConfig`.
    """

    url: str
    range: PartRange
    recipe: Recipe
    filterbank_MF: np.ndarray
    recordings: pl.DataFrame
    metadata: pl.DataFrame
    remote: RemoteConfig = DEFAULT
    channel: str = MEAN


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """Result of one part; `conflict` names an object that another build had written there."""

    part: int
    num_slices: int = 0
    audio_s: float = 0.0
    conflict: str = ""


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
