"""Files of an evaluation: tables and pictures."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from storage.output_files import output_file
from training.experiments.pictures import write_confusion
from training.inference.evaluation.config import EvaluateConfig
from training.inference.evaluation.errors import worst_errors
from training.inference.evaluation.evaluate import Evaluation
from training.inference.evaluation.pictures import write_precision_recall
from training.inference.evaluation.report import class_table, scores_json

DECIMALS = 4  # in tables for people


def write_evaluation(evaluation: Evaluation, config: EvaluateConfig) -> Iterator[str]:
    """Writes all files into `evaluate.out`; yields lines for the user."""
    out = Path(config.out)
    names = {
        label: evaluation.classes.name(label, "common_name") for label in evaluation.classes.labels
    }
    errors = worst_errors(evaluation, config.errors)
    with output_file(out / "scores.json") as file:
        file.write_text(scores_json(evaluation), encoding="utf-8")
    with output_file(out / "classes.csv") as file:
        class_table(evaluation).write_csv(file, float_precision=DECIMALS)
    with output_file(out / "errors.csv") as file:
        errors.write_csv(file, float_precision=DECIMALS)
    with output_file(out / "evaluated.parquet") as file:
        evaluation.windows.write_parquet(file)
    with output_file(out / "precision_recall.png") as file:
        write_precision_recall(evaluation, file)
    labelled = evaluation.windows.filter(pl.col("target").list.len() > 0)
    if len(labelled):
        with output_file(out / "confusion.png") as file:
            write_confusion(labelled, names, file, unit="windows")
    if config.audio:
        from tools.cli.sheets.error_sheet import draw_errors, recipe_of  # torch takes seconds

        recipe = recipe_of(config.predictions)
        yield draw_errors(errors, Path(config.audio), out / "errors.png", names, recipe)
    yield f"tables and pictures: {out}"
