"""Calibrate the scores of a model, and find thresholds of its classes.

    python -m tools.calibrate calibrate.from=preds/exp_001/oof.parquet
    python -m tools.calibrate calibrate.from=evaluation/evaluated.parquet calibrate.out=field.csv
    python -m tools.calibrate calibrate.from=preds/exp_001/oof.parquet calibrate.shrinkage=100
    python -m tools.calibrate calibrate.reviews=reviews calibrate.out=reviewed.csv

Takes predictions with known labels: out-of-fold ones of an experiment, or those that tools.evaluate
has matched with annotations; or the scores that people were shown in a review, with their verdicts.
A class's probability p becomes sigmoid(a logit(p) + b), with a and b of the class; a class with few
positives keeps close to the fit of all classes together. Writes a csv with a line per class: label,
a, b, the scores at which precision reaches 0.9 and 0.95, that of the best F1, and counts;
`threshold` is the one that calibrate.threshold names. Thresholds are of scores as predicted, before
calibration. Next to it, as a PNG, is the share of positives by score, before and after.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import ConfigError
from storage.output_files import output_file
from tools.cli.command import Arguments, Command, run
from tools.cli.output_files import check_output
from training.inference.evaluation.calibration import (
    cross_calibrated,
    fit_calibration,
    write_calibration,
)
from training.inference.evaluation.config import CalibrateConfig
from training.inference.evaluation.labelled import LabelledScores, read_labelled
from training.inference.evaluation.thresholds import THRESHOLDS, expected_calibration_error


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Config sections of this command."""

    calibrate: CalibrateConfig = field(default_factory=CalibrateConfig)


COMMAND = Command(doc=__doc__, sections=Sections)


def main(sections: Sections, _: Arguments) -> None:
    """Writes the csv and the picture, prints a summary."""
    config = sections.calibrate
    if not (config.from_ or config.reviews):
        raise ConfigError(
            "calibrate.from names no table: give predictions with labels, as in "
            "calibrate.from=preds/exp_001/oof.parquet, or calibrate.reviews="
        )
    out = Path(config.out)
    if out.suffix.lower() != ".csv":
        raise ConfigError(f"calibrate.out={config.out} must end in .csv")
    check_output("calibrate.out", config.out)
    given = _read(config)
    table = fit_calibration(
        given.scores_NC, given.positives_NC, given.labels, shrinkage=config.shrinkage
    )
    with output_file(out) as file:
        write_calibration(table, file, f"threshold_{config.threshold}")
    crossed = cross_calibrated(given, config.shrinkage)
    after = table.apply(given.scores_NC) if crossed is None else crossed
    before_error = expected_calibration_error(given.scores_NC, given.positives_NC)
    after_error = expected_calibration_error(after, given.positives_NC)
    from training.inference.evaluation.pictures import write_reliability  # matplotlib: a second

    with output_file(out.with_suffix(".png")) as file:
        write_reliability(given.scores_NC, after, given.positives_NC, file)
    print(
        f"{len(given.labels)} classes, {sum(map(bool, table.num_positive))} with positives, "
        f"{len(given.scores_NC):,} rows"
        + (f", {sum(table.num):,} scores with a verdict" if config.reviews else "")
    )
    by = "the recordings that were fitted" if crossed is None else "recordings held out"
    print(f"expected calibration error: {before_error:.4f}; after, of {by}: {after_error:.4f}")
    for column in THRESHOLDS:
        found = table.threshold_of(column, calibrated=False)
        print(f"{column}: {len(found)} of {len(given.labels)} classes have one")
    print(f"calibration: {out}\npicture: {out.with_suffix('.png')}")


def _read(config: CalibrateConfig) -> LabelledScores:
    """The scores of predictions or of a review."""
    if not config.reviews:
        return read_labelled(Path(config.from_))
    from training.inference.evaluation.reviewed import read_shown_scores  # scipy takes seconds

    return read_shown_scores(config.reviews, config.model)


if __name__ == "__main__":
    sys.exit(run(COMMAND, main))
