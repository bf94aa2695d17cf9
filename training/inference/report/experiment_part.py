"""Sections on an experiment: scores, curves, classes, confusion, calibration, worst errors."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from storage.errors import ConfigError, StoreError
from storage.store import Store
from storage.untrusted import parse_json, record_of
from training.inference.queries.config import QueryConfig
from training.inference.queries.tables import open_tables
from training.inference.report.page import Part, paragraph, picture, table
from training.inference.report.store_part import MAX_LINES, spectrogram
from training.model.metrics import METRICS

SCORES, CLASSES = "scores.json", "classes.csv"
PICTURES = {
    "curves.png": ("Curves", "learning curves of the folds"),
    "confusion.png": ("Confusion", "shares of each class's recordings by predicted class"),
}
NUM_BINS = 10
NUM_ERRORS = 24
MAX_PICTURE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """An experiment's folder of predictions, its name, and its tables oof and oof_recordings."""

    name: str
    folder: Path
    tables: dict[str, pl.LazyFrame]

    @classmethod
    def open(cls, store: Store, name: str, root: Path) -> "Results":
        """The results of a finished experiment; ConfigError where there are none."""
        tables = open_tables(store, QueryConfig(experiment=name), root=root, section="report")
        return cls(name=name, folder=root / "preds" / name, tables=tables)


def experiment_parts(store: Store, results: Results) -> Iterator[Part]:
    """Yields the sections of an experiment."""
    yield Part(name="scores", title=f"Scores of {results.name}", html=_scores(results.folder))
    for file, (title, text) in PICTURES.items():
        path = results.folder / file
        if path.is_file() and path.stat().st_size <= MAX_PICTURE_BYTES:
            html = picture(path.read_bytes(), "png", text)
            yield Part(name=path.stem, title=title, html=html)
    yield Part(name="per_class", title="Scores of the classes", html=_classes(results.folder))
    pooled = results.tables["oof_recordings"].collect()
    yield Part(name="calibration", title="Calibration", html=calibration(pooled))
    yield Part(name="errors", title="Worst errors", html=_errors(store, results))


def _scores(folder: Path) -> str:
    try:
        values = record_of(parse_json((folder / SCORES).read_bytes()))
        lines = [
            {"": f"fold {fold['fold']}", **_numbers(fold["scores"])} for fold in values["folds"]
        ]
        lines += [{"": key, **_numbers(values[key])} for key in ("overall", "pooled")]
    except OSError as error:
        raise ConfigError(f"{folder / SCORES} cannot be read: is the experiment done?") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{folder / SCORES} is damaged ({error}): train the experiment again, or leave "
            "report.experiment out"
        ) from error
    return table(lines) + paragraph(
        "overall: all held-out slices together; pooled: recordings, by the mean of their slices."
    )


def _numbers(scores: dict[str, Any]) -> dict[str, float | None]:
    return {
        METRICS[name].title: None if value is None else float(value)
        for name, value in scores.items()
        if name in METRICS
    }


def _classes(folder: Path) -> str:
    path = folder / CLASSES
    if not path.is_file():
        return paragraph("This experiment has no classes.csv.")
    try:
        rows = pl.read_csv(path, infer_schema_length=None, glob=False).head(MAX_LINES).to_dicts()
    except pl.exceptions.PolarsError as error:
        raise StoreError(
            f"{path} is damaged ({str(error).splitlines()[0]}): delete it, and the report leaves "
            "it out"
        ) from error
    return table(rows)


def calibration(oof: pl.DataFrame) -> str:
    """Share of right predictions by score, in ten bins, and its mean difference from the score.

    The expected calibration error is the mean of |accuracy - score|, weighted by the bins' counts
    (Guo et al., ICML 2017).
    """
    right_N = (oof["predicted"] == oof["label"]).to_numpy()
    score_N = oof["score"].to_numpy()
    bin_N = np.minimum((score_N * NUM_BINS).astype(int), NUM_BINS - 1)
    rows, error = [], 0.0
    for number in range(NUM_BINS):
        inside = bin_N == number
        if not inside.any():
            continue
        accuracy, score = float(right_N[inside].mean()), float(score_N[inside].mean())
        error += inside.sum() * abs(accuracy - score) / len(oof)
        rows.append(
            {
                "score": f"{number / NUM_BINS:.1f} to {(number + 1) / NUM_BINS:.1f}",
                "recordings": int(inside.sum()),
                "mean score": score,
                "accuracy": accuracy,
            }
        )
    return table(rows, bar="accuracy") + paragraph(f"Expected calibration error {error:.3f}.")


def _errors(store: Store, results: Results) -> str:
    """The recordings whose label has the highest loss, with their most misleading slice."""
    worst = (
        results.tables["oof_recordings"]
        .filter(pl.col("label") != pl.col("predicted"))
        .sort("loss", "recording_id", descending=[True, False])
        .head(NUM_ERRORS)
        .select("recording_id", "label", "label_score", "predicted", "score", "loss")
        .collect()
    )
    slices = (
        results.tables["oof"]
        .select("recording_id", "row", "other_score")
        .filter(pl.col("recording_id").is_in(worst["recording_id"].implode()))
        .sort("other_score", "row", descending=[True, False])
        .unique("recording_id", keep="first", maintain_order=True)
        .collect()
    )
    found = worst.join(slices.drop("other_score"), on="recording_id", maintain_order="left")
    known = found.filter(pl.col("row").is_in(store.slice_index()["row"].implode()))
    figures = [
        spectrogram(
            cells,
            row["recording_id"],
            f"{row['recording_id']}: {row['label']} {row['label_score']:.2f}, predicted "
            f"{row['predicted']} {row['score']:.2f}",
        )
        for cells, row in zip(store.slices(known), known.iter_rows(named=True), strict=True)
    ]
    return "".join(figures) + table(worst.to_dicts())
