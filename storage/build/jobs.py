"""Input and result of a build worker. Light to import: planning needs no torch."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from storage.build.plan import PartRange
from storage.format.tables import RECORDING_SCHEMA
from storage.objects.client import DEFAULT, RemoteConfig
from storage.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class PartJob:
    """All that a worker needs. `recordings` has the plan's columns, `path` and the metadata."""

    url: str
    range: PartRange
    recipe: Recipe
    filterbank_MF: np.ndarray
    recordings: pl.DataFrame
    metadata_columns: list[str]
    remote: RemoteConfig = DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """Result of one part; `conflict` names an object that another build had written there."""

    part: int
    num_slices: int = 0
    audio_s: float = 0.0
    conflict: str = ""


def with_metadata(recordings: pl.DataFrame, metadata: pl.DataFrame) -> pl.DataFrame:
    """Recordings with the csv's columns, as given: our own columns first, theirs after."""
    labels = [name for name in metadata.columns if name in RECORDING_SCHEMA]
    ours = recordings.drop([name for name in labels if name != "recording_id"])
    joined = ours.join(metadata, on="recording_id", how="left", maintain_order="left")
    others = [name for name in metadata.columns if name not in RECORDING_SCHEMA]
    return joined.select(*RECORDING_SCHEMA, *others)
