"""Targets of the slices of a pool, a store without labels, as one table in memory.

Takes 4 bytes per slice and class. Shapes: N slices, C classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from storage.errors import ConfigError
from training.inference.predictions import WindowPredictions

PREFIX = "p_"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoolTargets:
    """Slices of a store with their targets, by increasing row.

    recording_N int64: line of the store's table of recordings; slice_N int32: number of the slice
    in its recording; row_N int64; values_NC float32 in [0, 1].
    """

    labels: tuple[str, ...]
    recording_N: np.ndarray
    slice_N: np.ndarray
    row_N: np.ndarray
    values_NC: np.ndarray

    def __len__(self) -> int:
        return len(self.row_N)

    def keep(self, kept_N: np.ndarray) -> "PoolTargets":
        """The slices of a mask, bool [N]."""
        return replace(
            self,
            recording_N=self.recording_N[kept_N],
            slice_N=self.slice_N[kept_N],
            row_N=self.row_N[kept_N],
            values_NC=self.values_NC[kept_N],
        )

    def with_values(self, values_NC: np.ndarray) -> "PoolTargets":
        """The same slices with other values, which are clipped to [0, 1]."""
        return replace(self, values_NC=values_NC.clip(0, 1).astype(np.float32))

    def maxima(self) -> tuple[np.ndarray, np.ndarray]:
        """Lines of the recordings with slices, int64 [R], and their largest values, [R, C]."""
        lines, first = np.unique(self.recording_N, return_index=True)
        if not len(lines):
            return lines, np.empty((0, len(self.labels)), np.float32)
        return lines, np.asarray(np.maximum.reduceat(self.values_NC, first))


def collect_pool(
    run: Iterable[WindowPredictions], labels: Sequence[str], recordings: pl.DataFrame
) -> PoolTargets:
    """Joins the predictions of a store; `recordings` are those of the store, by row.

    A class that no model knows is left out; one that a recording's teachers lack is 0 there. Raises
    ConfigError where the windows are not the slices of the store.
    """
    line_of = {name: line for line, name in enumerate(recordings["recording_id"])}
    first_row = recordings["first_row"].to_numpy()
    num_slices = recordings["num_slices"].to_numpy()
    parts: list[tuple[int, np.ndarray]] = []
    for windows in run:
        name = windows.recording.recording_id
        line, values_WC = line_of[name], windows.probabilities
        if len(values_WC) != num_slices[line]:
            raise ConfigError(
                f"{name} has {len(values_WC)} windows and {num_slices[line]} slices in the store: "
                "pseudo-labels are of slices, so predict the store itself, without predict.step_s"
            )
        if not np.isnan(values_WC).all():
            parts.append((line, values_WC))
    parts.sort(key=lambda part: first_row[part[0]])
    empty = np.empty((0, len(labels)), np.float32)
    values_NC = np.concatenate([empty, *(values for _, values in parts)])
    known_C = ~np.isnan(values_NC).all(axis=0)
    counts = [len(values) for _, values in parts]
    recording_N = np.repeat(np.asarray([line for line, _ in parts], np.int64), counts)
    numbers = (np.arange(count, dtype=np.int32) for count in counts)
    slice_N = np.concatenate([np.empty(0, np.int32), *numbers])
    return PoolTargets(
        labels=tuple(label for label, known in zip(labels, known_C, strict=True) if known),
        recording_N=recording_N,
        slice_N=slice_N,
        row_N=first_row[recording_N] + slice_N,
        values_NC=np.nan_to_num(values_NC[:, known_C]).astype(np.float32),
    )


def targets_frame(pool: PoolTargets, recordings: pl.DataFrame, fold_R: np.ndarray) -> pl.DataFrame:
    """Returns the table that `sources.NAME.targets` reads, with weight and fold of recordings.

    Columns: recording_id, slice_no, fold, weight, p_<label>.
    """
    weight_R = np.zeros(len(recordings), np.float64)
    lines, maxima_RC = pool.maxima()
    weight_R[lines] = maxima_RC.sum(axis=1)
    head = {
        "recording_id": recordings["recording_id"].gather(pool.recording_N),
        "slice_no": pool.slice_N,
        "fold": fold_R[pool.recording_N],
        "weight": weight_R[pool.recording_N],
    }
    columns = {f"{PREFIX}{name}": pool.values_NC[:, at] for at, name in enumerate(pool.labels)}
    return pl.DataFrame({**head, **columns})


def recordings_frame(
    pool: PoolTargets, recordings: pl.DataFrame, fold_R: np.ndarray
) -> pl.DataFrame:
    """Returns a line per recording with targets: fold, num_slices, weight, its highest class.

    `weight` is the sum over classes of the recording's largest target, by which to sample.
    """
    lines, maxima_RC = pool.maxima()
    best = maxima_RC.argmax(axis=1) if len(pool.labels) else np.zeros(len(lines), np.int64)
    return pl.DataFrame(
        {
            "recording_id": recordings["recording_id"].gather(lines),
            "fold": fold_R[lines],
            "num_slices": np.unique(pool.recording_N, return_counts=True)[1],
            "weight": maxima_RC.sum(axis=1, dtype=np.float64),
            "top_label": [pool.labels[at] for at in best.tolist()],
            "top": maxima_RC.max(axis=1, initial=0),
        }
    )
