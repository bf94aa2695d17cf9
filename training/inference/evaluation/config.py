"""Config of tools.evaluate and tools.calibrate."""

from dataclasses import dataclass, field

from storage.errors import ConfigError
from storage.options import check_at_least, check_between, check_choice, option

MEAN, GEOMETRIC, MAX = "mean", "geometric", "max"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """Settings of an evaluation: predictions, annotations, and the rules between them."""

    predictions: list[str] = field(
        default_factory=list,
        metadata={"help": "tables of tools.predict, or folders with predictions.parquet"},
    )
    annotations: list[str] = field(
        default_factory=list,
        metadata={
            "help": "csv, Raven table, folder of Raven tables, labelled folder, or store; []: the "
            "targets in the predictions, as in oof.parquet"
        },
    )
    reviews: list[str] = field(
        default_factory=list,
        metadata={
            "help": "folders of reviews, or files of them: scored instead of annotations, by what "
            "was judged alone"
        },
    )
    out: str = option("", "folder for tables and pictures; empty: none")
    min_overlap_s: float = option(
        0.5, "overlap that makes a window positive, s; half the annotation where that is less"
    )
    label_column: str = option("", "column of the labels in the annotations; empty: found by name")
    taxonomy: str = option("", "csv with primary_label, common_name, scientific_name, class_name")
    taxon: str = option("class_name", "column of the taxonomy that has its own scores")
    pool: str = option(
        MEAN, "of the windows of a recording: mean, geometric (see trainer.pool) or max"
    )
    secondary_weight: float = option(0.5, "target value of further labels of a window, for KL")
    thresholds: list[float] = field(
        default_factory=lambda: [0.1, 0.25, 0.5, 0.75, 0.9],
        metadata={"help": "scores at which precision, recall and F1 are given"},
    )
    class_thresholds: str = option("", "csv of label and threshold, or that of tools.calibrate")
    bootstrap: int = option(200, "resamplings of the recordings for 95 % intervals; 0: none")
    seed: int = option(0, "decides the resamplings")
    errors: int = option(12, "worst false and missed windows to list, of each kind")
    members: bool = option(
        False, "also the blend without each entry of predict.from; of one folder of tools.predict"
    )
    audio: str = option("", "folder of the recordings, for the spectrograms of the worst errors")

    def __post_init__(self) -> None:
        check_choice(self, "evaluate", "pool", (MEAN, GEOMETRIC, MAX))
        check_at_least(self, "evaluate", 0, "min_overlap_s", "bootstrap", "errors")
        check_between(self, "evaluate", 0, 1, "secondary_weight")
        if not all(0 <= threshold <= 1 for threshold in self.thresholds):
            raise ConfigError(f"evaluate.thresholds={self.thresholds} must be within 0 to 1")
        if self.reviews and (self.annotations or self.members or self.audio):
            raise ConfigError(
                "evaluate.reviews are scored alone: leave out evaluate.annotations, members and "
                "audio"
            )
        if self.audio and not self.out:
            raise ConfigError("evaluate.audio is for errors.png in evaluate.out: give both")


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateConfig:
    """Settings of a calibration."""

    from_: str = option(
        "", "Parquet with target and p_<label>: preds/exp_003/oof.parquet, or evaluated.parquet"
    )
    reviews: list[str] = field(
        default_factory=list,
        metadata={
            "help": "instead of `from`: folders of reviews, or files of them, with the scores that "
            "were shown"
        },
    )
    model: str = option(
        "", "of the reviews: the model whose scores were shown; empty: the only one"
    )
    out: str = option("calibration.csv", "csv with a, b and thresholds; a picture is next to it")
    shrinkage: float = option(
        20.0, "how strongly a class keeps to the pooled fit, about in slices of it"
    )
    threshold: str = option(
        "f1", "column `threshold`, which detect.thresholds takes: p90, p95 (precision) or f1 (best)"
    )

    def __post_init__(self) -> None:
        check_at_least(self, "calibrate", 1e-6, "shrinkage")
        check_choice(self, "calibrate", "threshold", ("p90", "p95", "f1"))
        if self.from_ and self.reviews:
            raise ConfigError(
                "calibrate.from and calibrate.reviews are two truths: give one of them"
            )
