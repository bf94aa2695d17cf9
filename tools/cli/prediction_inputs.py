"""Config sections of commands that predict recordings."""

from dataclasses import dataclass, field

from tools.cli.config import RemoteSection
from training.experiments.experiment import ExperimentConfig
from training.inference.config import OutputSections, PredictConfig
from training.inference.embeddings.config import EmbedderConfig


@dataclass(frozen=True, kw_only=True)
class PredictSections(RemoteSection, OutputSections):
    """Config sections of this command."""

    predict: PredictConfig = field(default_factory=PredictConfig)
    embed: EmbedderConfig = field(default_factory=EmbedderConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
