"""Config sections of commands that predict recordings."""

from dataclasses import dataclass, field
from typing import Any

from storage.source.recorder_facts import RecorderConfig
from tools.cli.config import RemoteSection
from training.experiments.experiment import ExperimentConfig
from training.inference.config import PredictConfig
from training.inference.outputs.config import DetectConfig, OutputConfig
from training.inference.post.config import BlendConfig


@dataclass(frozen=True, kw_only=True)
class PredictSections(RemoteSection):
    """Config sections of this command."""

    predict: PredictConfig = field(default_factory=PredictConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    post: list[Any] = field(
        default_factory=list,
        metadata={
            "help": "steps on the probabilities, in order, as in [{smooth: {kernel: [.2,.6,.2]}}, "
            "{file_top: {k: 2}}]"
        },
    )
    blend: BlendConfig = field(default_factory=BlendConfig)
    recorder: RecorderConfig = field(default_factory=RecorderConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
