"""Settings of detections and of the formats that are written."""

from dataclasses import dataclass, field

from storage.errors import ConfigError
from storage.options import check_at_least, check_between, check_choice, option

FORMATS = (
    "parquet",
    "csv",
    "raven",
    "audacity",
    "kaleidoscope",
    "submission",
    "excerpts",
    "presence",
)
CHOICES = ("all", "top", "random", "bands")


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectConfig:
    """Settings that decide which class in which window is a detection."""

    threshold: float | None = option(0.5, "least score of a detection; null: any score")
    top_k: int | None = option(
        None, "most classes per window, those with the highest scores; null: any number"
    )
    thresholds: str | None = option(
        None, "csv with label and threshold, for the classes in it instead of detect.threshold"
    )
    merge_gap_s: float | None = option(
        None,
        "join detections of a class with at most this gap, s (0: windows that touch); null: no",
    )
    min_s: float = option(0.0, "least length of a detection after joining, s")
    species: str | None = option(
        None, "csv with label or scientific_name, and site if they differ: the only species found"
    )
    exclude: list[str] = field(
        default_factory=lambda: ["no_call"],
        metadata={"help": "labels that are never a detection, if the model has them"},
    )
    latitude: float | None = option(
        None, "place of the recordings, degrees, for BirdNET's species list"
    )
    longitude: float | None = option(None, "place of the recordings, degrees")
    week: int | None = option(None, "1 to 48, four a month; null: species of the whole year")
    min_presence: float = option(0.03, "least probability that a species is at the place and week")

    def __post_init__(self) -> None:
        if self.threshold is not None:
            check_between(self, "detect", 0, 1, "threshold")
        check_at_least(self, "detect", 1, "top_k")
        check_at_least(self, "detect", 0, "merge_gap_s", "min_s")
        check_between(self, "detect", 0, 1, "min_presence")
        if self.week is not None:
            check_between(self, "detect", 1, 48, "week")
        if (self.latitude is None) != (self.longitude is None):
            raise ConfigError("detect.latitude and detect.longitude: give both or none of them")
        if self.latitude is not None:
            check_between(self, "detect", -90, 90, "latitude")
            check_between(self, "detect", -180, 180, "longitude")
        elif self.week is not None:
            raise ConfigError("detect.week needs detect.latitude and detect.longitude")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcerptConfig:
    """Settings of the excerpts of detections, for review by ear."""

    choice: str = option(
        "bands", "all detections; or per class: top scores, random, as many from each of the bands"
    )
    n: int = option(10, "most excerpts of a class; of a class and band with choice=bands")
    bands: list[float] = field(
        default_factory=lambda: [0.25, 0.5, 0.75, 0.9],
        metadata={"help": "borders between the score bands"},
    )
    context_s: float = option(1.0, "sound before and after a detection, s")
    max_s: float = option(60.0, "most sound in one excerpt, s")
    seed: int = option(0, "seed of random and bands")

    def __post_init__(self) -> None:
        check_choice(self, "output.excerpts", "choice", CHOICES)
        check_at_least(self, "output.excerpts", 1, "n")
        check_at_least(self, "output.excerpts", 0, "context_s")
        check_between(self, "output.excerpts", 0.1, 3600, "max_s")
        if self.bands != sorted(set(self.bands)) or not all(0 < edge < 1 for edge in self.bands):
            raise ConfigError(
                f"output.excerpts.bands={self.bands} must rise and lie between 0 and 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputConfig:
    """Settings of the files that are made of predictions."""

    formats: list[str] = field(
        default_factory=lambda: ["parquet", "csv"],
        metadata={"help": f"any of {', '.join(FORMATS)}"},
    )
    sample_submission: str | None = option(
        None, "csv of a competition: its rows, columns and their order are those of submission.csv"
    )
    fill_missing: float | None = option(
        None, "value of cells of submission.csv that were not predicted; null: an error"
    )
    excerpts: ExcerptConfig = field(default_factory=ExcerptConfig)

    def __post_init__(self) -> None:
        check_choice(self, "output", "formats", FORMATS)
        if self.fill_missing is not None:
            check_between(self, "output", 0, 1, "fill_missing")
