"""Config of predictions; next to their code, which needs torch."""

from dataclasses import dataclass, field

from storage.audio.channels import MEAN, check_channel
from storage.errors import ConfigError
from storage.objects.urls import is_remote
from storage.options import check_at_least, check_choice, check_positive, option
from storage.source.recorder_facts import RecorderConfig
from training.inference.outputs.config import DetectConfig, OutputConfig
from training.inference.post.config import PostSections
from training.runtime import auto

REFUSE, UNION = "refuse", "union"
NO_FRAMES, OVERLAP_MEAN = "none", "overlap_mean"


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictConfig:
    """Settings of predictions: models, recordings, windows, and the machine."""

    from_: list[str] = field(
        default_factory=list,
        metadata={
            "help": "models: exp_003, exp_003/fold_1, a .ckpt, a folder of them, an .onnx, an .xml "
            "of OpenVINO, a probe's .safetensors; several as in [exp_003,exp_007/fold_1]"
        },
    )
    input: list[str] = field(
        default_factory=list,
        metadata={
            "help": "recordings: files, folders, a csv with a column filename, a store, s3://..., "
            "https://..."
        },
    )
    out: str = option("preds/new", "folder of the results; a run that was stopped goes on in it")
    step_s: float | None = option(
        None, "from the start of one window to the next, s; null: the length of the model's slices"
    )
    frames: str = option(
        NO_FRAMES,
        "models with model.head=sed: none, or overlap_mean: means of frames over all windows that "
        "cover them, then the largest of a window",
    )
    channel: str = option(
        MEAN, "of several: mean, left, right, loudest (decodes twice), or a number from 0"
    )
    batch_size: int = option(32, "windows that the model takes at once")
    workers: int | None = option(
        None,
        "processes that decode; 0: none but this one; null: one less than there are cores, none "
        "for five minutes of audio or less",
    )
    accelerator: str = option("auto", "auto, cpu or gpu")
    threads: int = option(0, "of torch on the CPU; 0: as many as this process may use")
    precision: str = option("auto", "auto, 32-true, bf16-mixed or 16-mixed")
    limit: int | None = option(None, "number of recordings, spread over all, for a first look")
    labels: str = option(
        REFUSE, "models with other label lists: refuse, or union (a model is silent on the rest)"
    )
    taxonomy: str = option("", "csv of the classes: primary_label, common_name, ...")

    def __post_init__(self) -> None:
        check_choice(self, "predict", "accelerator", auto.ACCELERATORS)
        check_choice(self, "predict", "precision", auto.PRECISIONS)
        check_choice(self, "predict", "labels", (REFUSE, UNION))
        check_choice(self, "predict", "frames", (NO_FRAMES, OVERLAP_MEAN))
        check_channel(self.channel, "predict.channel")
        check_positive(self, "predict", "step_s")
        check_at_least(self, "predict", 1, "batch_size", "limit")
        check_at_least(self, "predict", 0, "workers", "threads")
        if not self.out.strip() or is_remote(self.out):
            raise ConfigError(f"predict.out={self.out} must be a folder of this machine")

    def check_given(self) -> None:
        """Raises ConfigError where no model or no recording is named."""
        if not self.from_:
            raise ConfigError(
                "predict.from names no model: give an experiment, as in predict.from=exp_003, one "
                "of its folds, exp_003/fold_1, or the file of a checkpoint"
            )
        if not self.input:
            raise ConfigError(
                "predict.input names no recordings: give files or folders, as in "
                "predict.input=soundscapes, a csv, a store or a URL"
            )


@dataclass(frozen=True, kw_only=True)
class OutputSections(PostSections):
    """Sections that decide the outputs of a run, apart from its raw results."""

    output: OutputConfig = field(default_factory=OutputConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    recorder: RecorderConfig = field(default_factory=RecorderConfig)
