"""Expected number of slices of a recording, before it is cut: the input of plans."""

import polars as pl

from storage.audio.slicing import num_slices
from storage.objects.client import RemoteConfig
from storage.recipe import Recipe
from storage.source.kinds import intake_of


def expected_slices(
    pending: pl.DataFrame, earlier: pl.DataFrame, recipe: Recipe, remote: RemoteConfig
) -> pl.Series:
    """Slices per pending recording, int64 [n].

    By its header; by decoding it where an earlier plan held it without result, as its header was
    wrong. Nothing for duplicates and for what cannot be used.
    """
    tried = set(earlier.select("recording_id", "content_hash").iter_rows())
    counts = []
    for row in pending.iter_rows(named=True):
        if row["reason"] or row["duplicate_of"]:
            counts.append(0)
        elif (row["recording_id"], row["content_hash"]) in tried:
            counts.append(intake_of(recipe, remote).count_slices(row["path"]))
        else:
            counts.append(
                max(1, num_slices(round(row["header_s"] * recipe.sample_rate_hz), recipe))
            )
    return pl.Series("expected_slices", counts, pl.Int64)
