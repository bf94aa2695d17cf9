"""The scores of an experiment: as a table for people, as `scores.json` for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from datasets.labels import Labels
from storage.errors import StoreError
from training.experiments.experiment import Experiment
from training.model.metrics import TITLES, Scores, Truth, score_cells
from training.runtime.files import write_whole
from training.runtime.memory import MemoryLeft

OOF, EMBEDDINGS, RESULT = "oof.parquet", "embeddings.parquet", "result.json"
POOLED_OOF, POOLED_EMBEDDINGS = "oof_recordings.parquet", "embeddings_recordings.parquet"
COLUMNS = ("fold", "rec.", "slices", "epoch", *TITLES, "min")
LEGEND = "epoch: kept/last; recordings: by means of slices; BalAcc: mean recall of classes"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldResult:
    """One fold: its held-out recordings and slices, and the scores of its best epoch."""

    fold: int
    num_recordings: int
    num_slices: int
    best_epoch: int  # counted from 1
    num_epochs: int
    scores: Scores
    plan_digest: str  # of the first epoch's plan
    memory: MemoryLeft  # after the fold, of the first rank
    duration_s: float


def write_result(result: FoldResult, path: Path) -> None:
    """Keeps the result of a fold until all folds are done; the file is whole or absent."""
    write_whole(path, json.dumps(asdict(result)).encode())


def read_result(path: Path) -> FoldResult:
    """Reads the result that `write_result` wrote; raises StoreError on anything else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return FoldResult(**{**values, "memory": MemoryLeft(**values["memory"])})
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StoreError(
            f"{path} is damaged: remove it to train this fold again, and resume"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """All folds, and the scores of all held-out slices together.

    `pooled`: those of all held-out recordings, each with the mean probabilities of its slices.
    `classes`: those of each class, as `score_classes` makes them. `parts`: those of rare classes,
    taxa and sites, as `score_parts` makes them.
    """

    experiment: Experiment
    folds: Sequence[FoldResult]
    overall: Scores
    pooled: Scores
    classes: pl.DataFrame
    parts: pl.DataFrame

    def table(self) -> str:
        """Formats the scores of the folds; of all together; and per recording."""
        lines = [
            (
                str(result.fold),
                str(result.num_recordings),
                str(result.num_slices),
                f"{result.best_epoch}/{result.num_epochs}",
                *score_cells(result.scores),
                f"{result.duration_s / 60:.1f}",
            )
            for result in self.folds
        ]
        total = (
            "all slices",
            str(sum(result.num_recordings for result in self.folds)),
            str(sum(result.num_slices for result in self.folds)),
            "",
            *score_cells(self.overall),
            f"{sum(result.duration_s for result in self.folds) / 60:.1f}",
        )
        pooled = ("recordings", total[1], total[1], "", *score_cells(self.pooled), "")
        table = format_table(COLUMNS, [*lines, total, pooled], num_totals=2)
        return f"{table}\n{LEGEND}"

    def write_scores(self, path: Path) -> None:
        """Writes `scores.json`, whole or not at all; a score that is not defined is null."""
        values = {
            "experiment": self.experiment.name,
            "folds": [asdict(result) for result in self.folds],
            "overall": self.overall,
            "pooled": self.pooled,
        }
        plain = json.loads(json.dumps(values), parse_constant=lambda _: None)  # NaN
        write_whole(path, (json.dumps(plain, indent=2) + "\n").encode())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """Held-out predictions of N slices or recordings, with the truth of each; C classes."""

    labels: Labels
    truth: Truth
    probabilities_NC: np.ndarray

    @classmethod
    def of(cls, frame: pl.DataFrame, secondary_weight: float = 1.0) -> Self:
        """Takes a table of predictions, with the targets that it has."""
        classes = [name for name in frame.columns if name.startswith("p_")]
        labels = Labels(tuple(name.removeprefix("p_") for name in classes))
        target = pl.col("target")
        recordings = frame.select(
            primary_label=target.list.first(), secondary_labels=target.list.slice(1)
        )
        return cls(
            labels=labels,
            truth=Truth.of(recordings, labels, secondary_weight),
            probabilities_NC=frame.select(classes).to_numpy(),
        )


def score_frame(frame: pl.DataFrame, secondary_weight: float) -> Scores:
    """Scores of a table of held-out predictions."""
    held = Held.of(frame, secondary_weight)
    return held.truth.score(held.probabilities_NC, np.arange(len(frame)))


def format_table(header: Sequence[str], lines: Sequence[Sequence[str]], *, num_totals: int) -> str:
    """Right-aligned columns, a rule below the header and above the last lines."""
    widths = [max(len(line[place]) for line in [header, *lines]) for place in range(len(header))]

    def row(cells: Sequence[str]) -> str:
        return "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))

    rule = "-" * len(row(header))
    first_total = len(lines) - num_totals
    rows = [*map(row, lines)]
    if num_totals:
        rows.insert(first_total, rule)
    return "\n".join([row(header), rule, *rows])
