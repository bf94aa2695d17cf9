"""Everything that a page shows of one store, opened together.

exploration = Exploration.open(store, ExplorationInputs(experiment="exp_003"))
exploration.views.places(View(sort="loss", falling=True))
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from storage.errors import ConfigError
from storage.progress import Progress, silent
from storage.source.table import read_source
from storage.store import Store
from training.inference.exploring.comparison import second_columns
from training.inference.exploring.detections import Detections
from training.inference.exploring.frame import SliceFrame
from training.inference.exploring.nearness.neighbours import Neighbours
from training.inference.exploring.nearness.plane import SlicePlane
from training.inference.exploring.reviewing.queue_items import QueueSource
from training.inference.exploring.reviewing.review_desk import ReviewDesk
from training.inference.exploring.scores import OofScores
from training.inference.exploring.sound import SoundFiles
from training.inference.exploring.views import Views
from training.inference.queries.config import QueryConfig
from training.inference.queries.same_store import check_same_store
from training.inference.queries.tables import OOF, open_tables
from training.inference.similarity.place import EmbeddingPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorationInputs:
    """Results that are shown with a store, and where the recordings are."""

    query: QueryConfig = field(default_factory=QueryConfig)
    compare: str = ""
    embeddings: EmbeddingPlace = field(default_factory=EmbeddingPlace)
    map: Path | None = None
    reviews: Path = Path("reviews")


@dataclass(frozen=True, kw_only=True, eq=False)
class Exploration:
    """A store with its results, reviews and neighbours. Safe to use from threads."""

    store: Store
    inputs: ExplorationInputs
    frame: SliceFrame
    views: Views
    queues: QueueSource
    tables: dict[str, pl.LazyFrame]
    reviewed: "ReviewedPlaces"
    neighbours: Neighbours
    plane: SlicePlane
    desk: ReviewDesk
    sounds: SoundFiles
    scores: OofScores | None = None
    second: OofScores | None = None
    detections: Detections | None = None

    @classmethod
    def open(
        cls, store: Store, inputs: ExplorationInputs, progress: Progress = silent
    ) -> "Exploration":
        """Opens the results; ConfigError where one is missing or of another store."""
        root, query = inputs.embeddings.root, inputs.query
        tables = open_tables(store, query, root=root, section="explore")
        rows = store.slice_index()["row"].to_numpy()
        if inputs.compare and not query.experiment:
            raise ConfigError("explore.compare needs explore.experiment, to compare with")
        scores = _scores(root, rows, "experiment", query.experiment, progress)
        second = _scores(root, rows, "compare", inputs.compare, progress)
        if second is not None:
            key = f"explore.compare={inputs.compare}"
            check_same_store(
                pl.scan_parquet(root / "preds" / inputs.compare / OOF, glob=False), store, key
            )
        frame = SliceFrame(store, _columns(scores, second))
        detections = _detections(tables, frame)
        neighbours = Neighbours(store, frame, inputs.embeddings)
        plane = SlicePlane(frame, inputs.map, neighbours)
        desk = ReviewDesk(inputs.reviews)
        tables["slices"] = frame.lazy
        reviewed = ReviewedPlaces(desk, frame)

        def current_tables() -> dict[str, pl.LazyFrame]:
            return {**tables, "reviews": desk.current().lazy()}

        views = Views(frame, current_tables, scores, neighbours, plane, reviewed)
        return cls(
            store=store,
            inputs=inputs,
            frame=frame,
            views=views,
            queues=QueueSource(frame, views, tables, scores, detections),
            tables=tables,
            reviewed=reviewed,
            neighbours=neighbours,
            plane=plane,
            desk=desk,
            sounds=SoundFiles(inputs.embeddings.remote),
            scores=scores,
            second=second,
            detections=detections,
        )

    def close(self) -> None:
        """Joins the files of reviews, and deletes copies of recordings."""
        self.desk.close()
        self.sounds.close()

    @cached_property
    def paths(self) -> Mapping[str, str | None]:
        """Path or URL of each recording of the source; ConfigError where there is no source."""
        place = self.inputs.embeddings
        recordings = read_source(place.source, place.remote).recordings
        return dict(recordings.select("recording_id", "path").iter_rows())


class ReviewedPlaces:
    """Places of the slices with verdicts, by their state; found again after a change."""

    def __init__(self, desk: ReviewDesk, frame: SliceFrame) -> None:
        self._desk, self._frame = desk, frame
        self._found: tuple[int, Mapping[str, np.ndarray]] = (-1, {})

    def __call__(self) -> tuple[int, Mapping[str, np.ndarray]]:
        """A version, and int64 places by state."""
        version = self._desk.version
        if version != self._found[0]:
            by_state: dict[str, list[int]] = {}
            for (recording_id, start_s), state in self._desk.slices().items():
                end_s = start_s + self._frame.slice_s
                place = self._frame.covering(recording_id, start_s, end_s)
                if place is not None:
                    by_state.setdefault(state, []).append(place)
            places = {state: np.array(found, np.int64) for state, found in by_state.items()}
            self._found = (version, places)
        return self._found


def _scores(
    root: Path, rows: np.ndarray, key: str, name: str, progress: Progress
) -> OofScores | None:
    if not name:
        return None
    path = root / "preds" / name / OOF
    if not path.is_file():
        raise ConfigError(
            f"explore.{key}={name}: there is no {path}: give a finished experiment; experiments "
            "are looked for below experiment.root="
        )
    return OofScores(path, rows, f"explore.{key}={name}", progress)


def _columns(first: OofScores | None, second: OofScores | None) -> pl.DataFrame:
    found: list[pl.Series] = [] if first is None else first.columns.get_columns()
    if first is not None and second is not None:
        found += second_columns(first, second).get_columns()
    return pl.DataFrame(found)


def _detections(tables: Mapping[str, pl.LazyFrame], frame: SliceFrame) -> Detections | None:
    found = tables.get("detections")
    return None if found is None else Detections(found.collect(), frame)
