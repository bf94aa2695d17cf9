"""The class of slices in which nothing calls: of whole sources, and of silent slices elsewhere.

    recordings = mark_sources(mix.recordings(), specs, "no_call")
    values, slices = silent_slices(mix.slice_index(), labels, "no_call")
    Targets(hard, [(values, slices)])

A model whose probabilities sum to one has to name some class in any slice; with this one it may
name none.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from datasets.labels import Labels
from datasets.slice_source import SOURCE
from datasets.sources.mix import SourceSpec
from datasets.targets import SoftSlices
from storage.errors import ConfigError


def mark_sources(
    recordings: pl.DataFrame, specs: Mapping[str, SourceSpec], no_call: str
) -> pl.DataFrame:
    """Gives the recordings of sources with `no_call=true` that class alone.

    Raises ConfigError where such a source has no class to give.
    """
    names = [name for name, spec in specs.items() if spec.no_call]
    if not names:
        return recordings
    if not no_call:
        raise ConfigError(
            f"sources.{names[0]}.no_call=true needs a class: name it with labels.no_call=no_call"
        )
    inside = pl.col(SOURCE).is_in(names)
    return recordings.with_columns(
        primary_label=pl.when(inside).then(pl.lit(no_call)).otherwise("primary_label"),
        secondary_labels=pl.when(inside)
        .then(pl.lit([], pl.List(pl.String)))
        .otherwise("secondary_labels"),
    )


def silent_slices(
    slice_index: pl.DataFrame, labels: Labels, no_call: str
) -> tuple[np.ndarray, SoftSlices]:
    """One target, float32 [1, C], and the silent slices whose target it is.

    None are silent by an index without the column, as of a set of bare slices.
    """
    values = np.zeros((1, len(labels)), np.float32)
    values[0, labels.names.index(no_call)] = 1
    silent = pl.col("silent").fill_null(False) if "silent" in slice_index.columns else pl.lit(False)
    rows = slice_index.filter(silent)["row"].to_numpy()
    return values, SoftSlices(rows=rows, line=np.zeros(len(rows), np.int32))
