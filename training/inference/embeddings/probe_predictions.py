"""Predictions of fitted probes: of embeddings, or, after their checkpoint, of slices.

    frame = predict_embeddings(probes, table, store)   # as the wide table of tools.predict
    member = ProbeClassifier("weights/exp_012/fold_0.safetensors")
    member.probabilities(cells_BMT)

Of several probes, the mean of their probabilities counts. Shapes: B slices, M mel bands, T frames,
C classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from storage.checksums import digest_file
from storage.errors import ConfigError
from storage.store import Store
from training.inference.embeddings.embedders import CheckpointEmbedder
from training.inference.embeddings.linear_probe import ENDING, LinearProbe, read_probe
from training.inference.embeddings.table import EmbeddingTable
from training.model.checkpoints import read_checkpoint

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


class ProbeClassifier:
    """A probe after the checkpoint that makes its embeddings, as one model of slices.

    `labels`, `recipe` and `output` as in a checkpoint, which is looked for in the `weights/` that
    the probe is in. Raises ConfigError where it is not there, or the embeddings are of a model of
    another kind.
    """

    def __init__(self, path: str | Path) -> None:
        self._probe, origin = read_probe(Path(path))
        checkpoint = Path(path).parent.parent / origin.model.name
        if not origin.model.name.endswith(".ckpt"):
            raise ConfigError(
                f"{path} takes embeddings of {origin.model.name}, which are no mel slices' of a "
                "checkpoint: embed the recordings by tools.embed, and predict by probe.from="
            )
        if not checkpoint.is_file() or digest_file(checkpoint) != origin.model.sha256:
            raise ConfigError(
                f"{path} takes embeddings of {origin.model.name}, and {checkpoint} is not that "
                "file: both must be in one folder weights/"
            )
        trained = read_checkpoint(checkpoint)
        self._embedder = CheckpointEmbedder(trained, trained.recipe)
        self.path = str(path)
        self.labels = self._probe.labels.names
        self.recipe = trained.recipe
        self.chunks = trained.chunks
        self.output = "softmax"
        self.names = trained.names
        self.post: list[Any] = []

    def probabilities(self, cells: np.ndarray) -> np.ndarray:
        """float32 [B, C] of cells [B, M, T] of any encoding."""
        return self._probe.probabilities(self._embedder.embed(cells))

    def __call__(self, cells: np.ndarray) -> np.ndarray:
        """The probabilities."""
        return self.probabilities(cells)
