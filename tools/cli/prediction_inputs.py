"""Config sections of commands that predict recordings."""

from dataclasses import dataclass, field

from tools.cli.config import RemoteSection
from training.experiments.experiment import ExperimentConfig
from training.inference.config import PredictConfig


@dataclass(frozen=True, kw_only=True)
class PredictSections(RemoteSection):
    """Config sections of this command."""

    predict: PredictConfig = field(default_factory=PredictConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
