"""Scores, pictures and tables of an experiment, once the predictions of all folds are there.

report = read_report(experiment, results, names, about, secondary_weight=0.5)
write_report(report, names)
"""

from collections.abc import Mapping, Sequence

import polars as pl

from storage.output_files import output_file
from training.experiments.classes import score_classes
from training.experiments.experiment import SCORES, Experiment
from training.experiments.parts import PartFacts, score_parts
from training.experiments.pictures import write_classes, write_confusion
from training.experiments.report import (
    OOF,
    POOLED_OOF,
    FoldResult,
    TrainingReport,
    score_frame,
)

CONFUSION, BEST_AND_WORST = "confusion.png", "classes.png"
CLASSES, PARTS = "classes.csv", "parts.csv"


def read_report(
    experiment: Experiment,
    results: Sequence[FoldResult],
    names: Mapping[str, str],
    about: PartFacts,
    secondary_weight: float,
) -> TrainingReport:
    """Scores the tables of predictions in the folder; `names` are common names by label.

    `about` says which recordings and classes have scores of their own.
    """
    folder = experiment.preds
    pooled = pl.read_parquet(folder / POOLED_OOF, glob=False)
    return TrainingReport(
        experiment=experiment,
        folds=results,
        overall=score_frame(pl.read_parquet(folder / OOF, glob=False), secondary_weight),
        pooled=score_frame(pooled, secondary_weight),
        classes=score_classes(pooled, names),
        parts=score_parts(pooled, about, secondary_weight),
    )


def write_report(report: TrainingReport, names: Mapping[str, str]) -> None:
    """Writes confusion and classes as pictures, classes.csv, parts.csv and, last, scores.json."""
    folder = report.experiment.preds
    write_confusion(pl.read_parquet(folder / POOLED_OOF, glob=False), names, folder / CONFUSION)
    for table, name in ((report.classes, CLASSES), (report.parts, PARTS)):
        with output_file(folder / name) as unfinished:
            table.write_csv(unfinished)
    write_classes(report.classes, folder / BEST_AND_WORST)
    report.write_scores(folder / SCORES)
