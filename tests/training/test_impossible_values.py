"""Config sections refuse values that make no sense, each by its key."""

import pytest

from storage.errors import ConfigError
from training.model.config import ModelConfig
from training.model.learning.averaging import AveragingConfig
from training.model.learning.losses import LossConfig
from training.model.learning.optimizers import OptimizerConfig
from training.model.models import check_backbone
from training.trainer import TrainerConfig


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        (AveragingConfig, "kind", "mean", "averaging.kind=mean is none of none, swa, ema"),
        (AveragingConfig, "start", 1.0, "averaging.start=1 must lie between 0 and below 1"),
        (AveragingConfig, "decay", -0.1, "averaging.decay=-0.1 must lie between 0 and below 1"),
        (AveragingConfig, "norm_batches", 0, "averaging.norm_batches=0 must be at least 1"),
        (LossConfig, "name", "bee", "loss.name=bee is none of bce, ce, focal, kl"),
        (LossConfig, "secondary", "none", "loss.secondary=none is none of soft, mask"),
        (LossConfig, "secondary_weight", 2.0, "loss.secondary_weight=2 must lie between 0 and 1"),
        (LossConfig, "label_smoothing", 1.0, "label_smoothing"),
        (LossConfig, "focal_gamma", -1.0, "loss.focal_gamma=-1 must be at least 0"),
        (ModelConfig, "pooling", "mean", "model.pooling=mean is none of avg, max"),
        (ModelConfig, "output", "tanh", "model.output=tanh is none of softmax, sigmoid"),
        (ModelConfig, "dropout", 1.0, "model.dropout=1 must lie between 0 and below 1"),
        (ModelConfig, "views", [[2, 0]], r"model.views=\[\[2, 0\]\] must be a list of pairs"),
        (ModelConfig, "views", [], r"model.views=\[\] must be a list of pairs"),
        (ModelConfig, "views", [[2]], r"model.views=\[\[2\]\] must be a list of pairs"),
        (ModelConfig, "weights_file", "/no/such.pth", "model.weights_file=/no/such.pth does not"),
        (OptimizerConfig, "learning_rate", 0.0, "optimizer.learning_rate=0 must be positive"),
        (OptimizerConfig, "weight_decay", -1.0, "optimizer.weight_decay=-1 must be at least 0"),
        (OptimizerConfig, "warmup_epochs", -1.0, "optimizer.warmup_epochs=-1 must be at least 0"),
        (OptimizerConfig, "final_fraction", 2.0, "final_fraction=2 must lie between 0 and 1"),
        (TrainerConfig, "epochs", 0, "trainer.epochs=0 must be at least 1"),
        (TrainerConfig, "effective_batch_size", 0, "trainer.effective_batch_size=0"),
        (TrainerConfig, "patience", -1, "trainer.patience=-1 must be at least 0"),
        (TrainerConfig, "precision", "64", "trainer.precision=64 is none of auto, 32-true"),
        (TrainerConfig, "compile", "maybe", "trainer.compile=maybe is none of auto, true, false"),
        (TrainerConfig, "logger", "paper", "trainer.logger=paper is none of auto, csv, wandb"),
        (TrainerConfig, "accelerator", "tpu", "trainer.accelerator=tpu is none of auto, cpu, gpu"),
        (TrainerConfig, "devices", 0, "trainer.devices=0 must be at least 1"),
        (TrainerConfig, "strategy", "fsdp", "trainer.strategy=fsdp is none of auto, ddp"),
    ],
)
def test_impossible_values_are_refused_by_name(section, name, value, message):
    with pytest.raises(ConfigError, match=message):
        section(**{name: value})


def test_a_misspelt_backbone_is_refused_with_those_that_are_near():
    with pytest.raises(ConfigError, match="=resnt18 is no model of timm; did you mean resnet"):
        check_backbone(ModelConfig(backbone="resnt18"))
