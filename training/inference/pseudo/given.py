"""Tables that steps of a transform take: targets in Parquet, or labels of segments.

given = open_given("labels.csv", store, key="pseudo.transform: hard: file")
values, known = given.of(rows, labels)
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.slice_source import SliceSource
from datasets.sources.segments import SegmentClasses, read_segments, segment_classes
from datasets.targets import match_slices, read_soft_table

PARQUET = ".parquet"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GivenTargets:
    """Values of slices by name of class: rows int64 [n], increasing; values float32 [n, names]."""

    names: tuple[str, ...]
    rows: np.ndarray
    values: np.ndarray

    def of(self, rows: np.ndarray, labels: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Values float32 [N, C] of rows [N], 0 where there are none, and bool [N]: has some."""
        found = np.zeros((len(rows), len(labels)), np.float32)
        known = np.zeros(len(rows), bool)
        if len(self.rows):
            place = np.searchsorted(self.rows, rows).clip(max=len(self.rows) - 1)
            known = self.rows[place] == rows
            column = {name: at for at, name in enumerate(self.names)}
            for class_no, label in enumerate(labels):
                if label in column:
                    found[known, class_no] = self.values[place[known], column[label]]
        return found, known


def open_given(path: str, pool: SliceSource, labels: tuple[str, ...], key: str) -> GivenTargets:
    """Reads a Parquet of targets, or a table of segments, of the slices of the pool.

    Raises ConfigError where it is neither, or of other recordings.
    """
    recordings = pool.recordings()
    if Path(path).suffix == PARQUET:
        table = read_soft_table(path)
        slices = match_slices(table, recordings)
    else:
        names = segment_classes(pool, recordings).label_of
        own = {label.casefold(): label for label in labels}
        known = SegmentClasses(classes=labels, label_of={**names, **own})
        table, slices = read_segments(key, path, recordings, pool, known)
    return GivenTargets(names=table.names, rows=slices.rows, values=table.values[slices.line])
