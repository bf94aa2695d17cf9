"""Evaluate predictions against annotations of recordings that the model has not learned.

    python -m tools.evaluate evaluate.predictions=preds/new evaluate.annotations=annotations.csv
    python -m tools.evaluate evaluate.predictions=preds/new evaluate.annotations=raven_tables \\
        evaluate.out=evaluation evaluate.audio=soundscapes evaluate.taxonomy=taxonomy.csv
    python -m tools.evaluate evaluate.predictions=preds/exp_001/oof.parquet
    python -m tools.evaluate evaluate.predictions=preds/new evaluate.reviews=reviews
    python -m tools.evaluate predict.from=exp_001 predict.input=data/new predict.out=preds/new

The last one predicts a labelled folder or a store first, with all keys of tools.predict. With
evaluate.reviews only the windows and classes count that people have judged; evaluate.out then gets
reviewed_classes.csv alone.

Annotations are a csv with file, start_s, end_s, labels (several as `a;b`), a csv with filename and
primary_label, Raven selection tables, a labelled folder or a store; without any, the targets in the
predictions count. A window is positive for a label if it has evaluate.min_overlap_s of an
annotation, or half of it where that is less. Files on either side that have no match are named.

Prints the scores of training by windows, recordings, sites and taxa, with the number of classes
that have positives, 95 % intervals over recordings, and precision, recall and F1 at thresholds.
evaluate.members=true adds what each model of a blend is worth: the scores without it, with the same
keys of `blend`, `calibration` and `post` as for tools.predict.
evaluate.out gets scores.json, classes.csv, errors.csv, confusion.png, precision_recall.png, and
evaluated.parquet, which tools.calibrate takes; with evaluate.audio also errors.png.
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from storage.errors import ConfigError
from storage.output_files import output_file
from tools.cli.command import Arguments, Command, run
from tools.cli.output_files import MAX_PANELS, make_folder
from tools.cli.prediction import run_prediction
from tools.cli.prediction_inputs import PredictSections
from training.experiments.places import local_entries
from training.inference.class_table import labels_by_name, read_class_table
from training.inference.evaluation.annotations import Annotations, read_annotations
from training.inference.evaluation.config import EvaluateConfig
from training.inference.evaluation.labelled import read_predictions


@dataclass(frozen=True, kw_only=True)
class Sections(PredictSections):
    """Config sections of this command: its own, and those of predicting first."""

    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)


COMMAND = Command(doc=__doc__, sections=Sections)


def main(sections: Sections, _: Arguments) -> None:
    """Prints the scores, writes tables and pictures."""
    config = _predicted(sections) if sections.predict.from_ else _given(sections)
    if config.audio and 2 * config.errors > MAX_PANELS:
        raise ConfigError(f"evaluate.errors={config.errors}: a sheet has at most {MAX_PANELS // 2}")
    if config.members and len(config.predictions) != 1:
        raise ConfigError("evaluate.members takes one folder of tools.predict")
    predictions = read_predictions(config.predictions)
    if config.reviews:
        _evaluate_reviews(config, predictions)
        return
    annotations: Annotations | None = None
    if config.annotations:
        labels = [name[2:] for name in predictions.columns if name.startswith("p_")]
        classes = read_class_table(config.taxonomy, labels)
        known = {*labels, *labels_by_name(classes)}
        annotations = read_annotations(
            config.annotations, known, label_column=config.label_column, remote=sections.remote
        )
    if config.out:
        make_folder("evaluate.out", Path(config.out))
    # scipy and scikit-learn take seconds
    from training.inference.evaluation.evaluate import Evaluation, evaluate
    from training.inference.evaluation.report import report_text

    evaluation: Evaluation = evaluate(predictions, annotations, config)
    print(report_text(evaluation))
    if config.members:
        from training.inference.evaluation.members import evaluate_members

        folder = Path(config.predictions[0])
        gains = evaluate_members(
            folder, annotations, config, sections, taxonomy=sections.predict.taxonomy
        )
        print(f"\n{gains.text()}")
    if config.out:
        from tools.cli.evaluation_files import write_evaluation

        for line in write_evaluation(evaluation, config):
            print(line)


def _evaluate_reviews(config: EvaluateConfig, predictions: pl.DataFrame) -> None:
    """Prints the scores of what was judged, and writes the table of classes."""
    from training.inference.evaluation.reviewed import read_decided, score_reviewed  # scipy

    scores = score_reviewed(predictions, read_decided(config.reviews))
    print(scores.text(config.thresholds))
    if config.out:
        target = Path(config.out) / "reviewed_classes.csv"
        make_folder("evaluate.out", Path(config.out))
        with output_file(target) as file:
            scores.classes().write_csv(file)
        print(f"classes: {target}")


def _given(sections: Sections) -> EvaluateConfig:
    """The config with predictions of this machine; those of experiments may be in a bucket."""
    config = sections.evaluate
    entries = local_entries(config.predictions, sections.experiment, sections.remote)
    return replace(config, predictions=entries)


def _predicted(sections: Sections) -> EvaluateConfig:
    """Predicts what is not predicted yet; its labels are the annotations, unless others are given.

    Raises ConfigError where predictions are given too, or nothing can be predicted.
    """
    config, predict = sections.evaluate, sections.predict
    if config.predictions:
        raise ConfigError("give evaluate.predictions, or predict.from to predict first; not both")
    if not run_prediction(sections):
        raise ConfigError(f"nothing could be predicted: see {predict.out}/rejects.csv")
    annotations = [] if config.reviews else config.annotations or predict.input
    return replace(config, predictions=[predict.out], annotations=annotations)


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
