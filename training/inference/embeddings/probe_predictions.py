"""Predictions of embeddings by fitted probes.

    frame = predict_embeddings(find_probes(["exp_012"], root), table, store)

Of several probes, the mean of their probabilities counts. Shapes: N slices, C classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from storage.errors import ConfigError
from storage.store import Store
from training.inference.embeddings.linear_probe import ENDING, LinearProbe, read_probe
from training.inference.embeddings.table import EmbeddingTable

BATCH = 4096  # lines at once


def find_probes(given: Sequence[str], root: Path) -> list[Path]:
    """The files of entries: exp_012, exp_012/fold_0 or a file; ConfigError where there are none."""
    files: list[Path] = []
    for entry in given:
        path = Path(entry) if entry.endswith(ENDING) else root / "weights" / f"{entry}{ENDING}"
        found = [path] if path.is_file() else sorted(path.with_suffix("").glob(f"*{ENDING}"))
        if not found:
            raise ConfigError(
                f"probe.from={entry} has no probe, neither {path} nor files in "
                f"{path.with_suffix('')}: give an experiment of tools.probe, or one of its files"
            )
        files += found
    return files


def predict_embeddings(files: Sequence[Path], table: EmbeddingTable, store: Store) -> pl.DataFrame:
    """recording_id, start_s, end_s, silent and `p_<label>` of all lines, in the table's order.

    Raises ConfigError where probes have other labels, or learned from another model.
    """
    probes = [_checked(file, table) for file in files]
    labels = probes[0].labels
    if any(probe.labels != labels for probe in probes):
        raise ConfigError("the probes have other label lists: predict with those of one experiment")
    embeddings = table.embeddings_NE
    blocks = [
        np.mean([probe.probabilities(embeddings[start : start + BATCH]) for probe in probes], 0)
        for start in range(0, len(embeddings), BATCH)
    ]
    found_NC = np.concatenate([np.empty((0, len(labels)), np.float32), *blocks])
    index = store.slice_index().select("row", "start_s", "silent")
    lines = table.frame.join(index, on="row", how="left", maintain_order="left")
    start_s = pl.col("start_s").cast(pl.Float64)
    return lines.select(
        "recording_id",
        start_s,
        end_s=start_s + store.recipe.slice_s,
        silent=pl.col("silent"),
    ).with_columns(pl.Series(f"p_{name}", found_NC[:, n]) for n, name in enumerate(labels.names))


def _checked(file: Path, table: EmbeddingTable) -> LinearProbe:
    probe, origin = read_probe(file)
    if origin.model != table.about.model:
        raise ConfigError(
            f"{file} has learned from embeddings of {origin.model.name}, and these are of "
            f"{table.about.model.name}: embed with the same model"
        )
    return probe
