"""The map of a store: two coordinates of each slice, from a file or by principal components.

plane = SlicePlane(frame, Path("map.parquet"), neighbours)
plane.points().places, plane.inside((0, 0, 1, 0, 1, 1))
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from storage.errors import ConfigError
from storage.progress import Progress
from training.inference.exploring.frame import SliceFrame
from training.inference.exploring.nearness.neighbours import Neighbours
from training.inference.exploring.nearness.waiting import Later

MAX_POINTS = 1_000_000
FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Points:
    """Places of n slices, int64 [n], and their coordinates, float32 [n, 2]."""

    places: np.ndarray
    xy: np.ndarray
    method: str
    is_sampled: bool


class SlicePlane:
    """The points of a map. Safe to use from threads."""

    def __init__(self, frame: SliceFrame, file: Path | None, neighbours: Neighbours) -> None:
        """`file`: of tools.similar --map; ConfigError where it is not there."""
        if file is not None and not file.is_file():
            raise ConfigError(f"explore.map: there is no {file}: tools.similar --map makes one")
        self._frame, self._file, self._neighbours = frame, file, neighbours
        self._all = Later("map points", self._make)

    def points(self) -> Points:
        """All points, or an even part of more than a million; ComputingError until they are there.

        Raises ConfigError where the file does not belong to the store.
        """
        every = self._all.get()
        if len(every.places) <= MAX_POINTS:
            return every
        chosen = np.linspace(0, len(every.places) - 1, MAX_POINTS).astype(np.int64)
        return Points(
            places=every.places[chosen],
            xy=every.xy[chosen],
            method=every.method,
            is_sampled=True,
        )

    def inside(self, polygon: tuple[float, ...]) -> np.ndarray:
        """Places of the slices within a polygon, x, y, x, y, ..."""
        from matplotlib.path import Path as Outline

        every = self._all.get()
        corners = np.array(polygon, np.float64).reshape(-1, 2)
        low, high = corners.min(axis=0), corners.max(axis=0)
        near = np.flatnonzero(((every.xy >= low) & (every.xy <= high)).all(axis=1))
        hit = Outline(corners).contains_points(every.xy[near])
        return np.asarray(every.places[near[hit]])

    def _make(self, progress: Progress) -> Points:
        if self._file is not None:
            return self._read(self._file)
        from training.inference.similarity.config import PCA
        from training.inference.similarity.maps import map_points

        del progress
        opened = self._neighbours.opened.get(wait_s=24 * 3600.0)
        xy = map_points(opened.collection.unit_NE, PCA, seed=0)
        return Points(places=opened.places, xy=xy, method=PCA, is_sampled=False)

    def _read(self, file: Path) -> Points:
        try:
            table = pl.read_parquet(file, columns=["row", "x", "y"], glob=False)
            xy = table.select(pl.col("x", "y").cast(pl.Float32)).to_numpy()
            rows = table["row"].cast(pl.Int64).to_numpy()
        except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise ConfigError(
                f"explore.map={file} is no map of tools.similar ({str(error).splitlines()[0]})"
            ) from error
        places = self._frame.places_of(rows)
        return Points(places=places, xy=xy, method=FILE, is_sampled=False)
