"""Config of a round of pseudo-labels."""

from dataclasses import dataclass, field
from typing import Any

from storage.options import check_at_least, check_between, check_choice, option
from storage.source.recorder_facts import RecorderConfig
from training.inference.config import PredictConfig
from training.inference.post.config import PostSections
from training.inference.pseudo.transform import STEPS, parse_transform

REFUSE, DROP, ALLOW = "refuse", "drop", "allow"


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudoConfig:
    """Settings of a round: transform, folds of the pool, comparison with the round before."""

    transform: list[Any] = field(
        default_factory=list,
        metadata={
            "help": "steps in order, as in [{threshold_max: 0.1}, {power: 1.54}, {cap_sum: 0.75}]; "
            f"{', '.join(STEPS)}"
        },
    )
    folds: int = option(
        0, "also write targets without each of so many folds of the pool; 0: none of these"
    )
    seen: str = option(
        REFUSE, "recordings from which all teachers have learned: refuse, drop, or allow"
    )
    previous: str = option("", "targets of the round before, to compare with")
    stop_agreement: float = option(
        0.95, "stop where so many slices have the top class of the round before, and ..."
    )
    stop_mass: float = option(0.05, "... the sum of all targets has changed by no larger share")

    def __post_init__(self) -> None:
        parse_transform(self.transform)
        check_choice(self, "pseudo", "seen", (REFUSE, DROP, ALLOW))
        check_between(self, "pseudo", 0, 1, "stop_agreement")
        check_at_least(self, "pseudo", 0, "folds", "stop_mass")


@dataclass(frozen=True, kw_only=True)
class RoundConfig(PostSections):
    """Config of a round: prediction, blending, post-processing and the transform."""

    predict: PredictConfig = field(default_factory=PredictConfig)
    pseudo: PseudoConfig = field(default_factory=PseudoConfig)
    recorder: RecorderConfig = field(default_factory=RecorderConfig)
