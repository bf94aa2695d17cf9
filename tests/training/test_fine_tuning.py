"""Frozen backbones, starting with a backbone alone, and resuming with every new setting."""

import warnings
from dataclasses import asdict
from pathlib import Path

import polars as pl
import pytest
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch.utils.data import DataLoader

from datasets.batch import Batch
from datasets.labels import Labels
from storage.recipe import Recipe
from training.config import TrainingConfig
from training.model.checkpoints import checkpoint_contents
from training.model.config import ModelConfig
from training.model.groups import build_groups, num_groups
from training.model.losses import LossConfig
from training.model.metrics import Truth
from training.model.models import build_classifier
from training.model.optimizers import OptimizerConfig
from training.model.pretrained import KEY, MODEL_PREFIX, Meaning
from training.module import SliceModule
from training.trainer import quiet_lightning

SHAPE = (16, 24)
LABELS = Labels(("a", "b", "c"))
GROUPS = build_groups(
    ("genus",), LABELS.names, {"a": {"genus": "x"}, "b": {"genus": "x"}, "c": {"genus": "y"}}
)
EPOCHS, BATCHES, BATCH = 3, 4, 6
Weights = dict[str, torch.Tensor]


class Epochs(Callback):
    """Keeps the weights after each epoch."""

    def __init__(self) -> None:
        self.weights: list[Weights] = []

    def on_train_epoch_end(self, trainer, module):
        state = module.model.state_dict()
        self.weights.append({name: value.clone() for name, value in state.items()})


def module_of(config: TrainingConfig, *, groups=()) -> SliceModule:
    torch.manual_seed(0)
    recordings = pl.DataFrame(
        {"primary_label": ["a", "b", "c"], "secondary_labels": [[], [], []]},
        schema_overrides={"secondary_labels": pl.List(pl.String)},
    )
    model = build_classifier(
        config.model, num_classes=3, slice_shape=SHAPE, num_groups=num_groups(groups)
    )
    contents = checkpoint_contents(LABELS, Recipe(), {}, fold=0, groups=groups)
    return SliceModule(model, config, Truth.of(recordings, LABELS, 0.0), contents=contents)


def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        Batch(
            slices=torch.rand(BATCH, *SHAPE, generator=generator),
            targets=torch.eye(3)[torch.arange(BATCH) % 3],
            rows=torch.arange(BATCH),
            recording_no=torch.arange(BATCH) % 3,
            position=torch.arange(BATCH) + number * BATCH,
            epoch=torch.tensor(0),
        )
        for number in range(BATCHES)
    ]


def fit(module: SliceModule, folder: Path, *, resume: str = "", accumulation: int = 1):
    """Weights after each epoch; a checkpoint after each step."""
    epochs = Epochs()
    steps = ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1)
    with quiet_lightning(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's, on batches that are no DataLoader's
        trainer = lightning.Trainer(
            max_epochs=EPOCHS,
            accelerator="cpu",
            callbacks=[epochs, steps],
            accumulate_grad_batches=accumulation,
            gradient_clip_val=1.0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        loader = DataLoader(batches(), batch_size=None)
        trainer.fit(module, loader, ckpt_path=resume or None, weights_only=True)
    return epochs.weights, module


def assert_equal(one: Weights, other: Weights) -> None:
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def backbone_of(weights: Weights) -> Weights:
    return {name: value for name, value in weights.items() if ".backbone." in name}


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_frozen_backbone_stays_as_it_is_while_the_head_learns(accumulation, tmp_path):
    """With its norms' statistics, in spite of weight decay; then it learns."""
    config = TrainingConfig(
        model=ModelConfig(backbone="test_resnet", freeze_epochs=2, head="sed", dropout=0.3),
        optimizer=OptimizerConfig(learning_rate=0.01, weight_decay=0.5, warmup_epochs=0.0),
    )
    module = module_of(config)
    begin = {name: value.clone() for name, value in module.model.state_dict().items()}
    weights, module = fit(module, tmp_path, accumulation=accumulation)
    assert_equal(backbone_of(weights[0]), backbone_of(begin))
    assert_equal(backbone_of(weights[1]), backbone_of(begin))
    head = "views.0.head.classes.weight"
    assert not torch.equal(weights[0][head], begin[head])
    for name, value in backbone_of(weights[2]).items():
        assert not torch.equal(value, begin[name]), name
    (optimizer,) = [module.optimizers().optimizer]
    steps = {name: optimizer.state[one]["step"] for name, one in module.model.named_parameters()}
    in_epoch = BATCHES // accumulation
    assert {int(step) for name, step in steps.items() if ".backbone." in name} == {in_epoch}
    assert {int(step) for name, step in steps.items() if ".head." in name} == {3 * in_epoch}


NEW = {
    "sed, groups, drop_path": TrainingConfig(
        model=ModelConfig(
            backbone="test_resnet", head="sed", frequency_pooling="gem", drop_path=0.3
        ),
        loss=LossConfig(name="soft_auc", bce_weight=0.25, clip_weight=0.5, frame_weight=0.5),
        optimizer=OptimizerConfig(name="radam", schedule="one_cycle", layer_decay=0.7),
    ),
    "frozen, 3 channels, gem": TrainingConfig(
        model=ModelConfig(
            backbone="test_resnet",
            freeze_epochs=2,
            channels=3,
            normaliser="standardise",
            pooling="gem",
        ),
        loss=LossConfig(name="asymmetric", negative_penalty=0.03, negative_smoothing=0.01),
        optimizer=OptimizerConfig(
            schedule="warm_restarts", restart_epochs=1.0, backbone_learning_rate=0.1
        ),
    ),
    "flat cosine": TrainingConfig(
        model=ModelConfig(backbone="test_resnet"),
        loss=LossConfig(name="ce", normalise_targets=False),
        optimizer=OptimizerConfig(schedule="flat_cosine"),
    ),
}


@pytest.mark.parametrize("name", NEW)
def test_resuming_equals_never_having_stopped(name, tmp_path):
    """From within an epoch, and from its end."""
    groups = GROUPS if "groups" in name else ()
    whole, _ = fit(module_of(NEW[name], groups=groups), tmp_path)
    for step in (4, 8):
        resume = str(tmp_path / f"step={step}.ckpt")
        module = module_of(NEW[name], groups=groups)
        rest, _ = fit(module, tmp_path / "rest", resume=resume)
        assert_equal(whole[-1], rest[-1])


def test_a_checkpoint_may_give_its_backbone_alone(tmp_path):
    recipe = Recipe(sample_rate_hz=8000, fmax_hz=4000, slice_s=2.0, n_mels=32)
    config = ModelConfig(backbone="test_resnet")
    torch.manual_seed(1)
    model = build_classifier(config, num_classes=3, slice_shape=recipe.slice_shape)
    state = {f"{MODEL_PREFIX}{name}": value for name, value in model.state_dict().items()}
    contents = checkpoint_contents(LABELS, recipe, {"model": asdict(config)}, fold=0)
    path = tmp_path / "fold_0.ckpt"
    torch.save({"state_dict": state, "epoch": 1, KEY: contents}, path)

    def begun(**options) -> Weights:
        again = ModelConfig(backbone="test_resnet", weights_file=str(path), **options)
        meaning = Meaning(LABELS.names, recipe)
        return build_classifier(
            again, num_classes=3, slice_shape=recipe.slice_shape, meaning=meaning
        ).state_dict()

    assert_equal(model.state_dict(), begun())
    alone = begun(start="backbone")
    assert_equal(backbone_of(model.state_dict()), backbone_of(alone))
    assert not torch.equal(alone["views.0.head.weight"], model.state_dict()["views.0.head.weight"])
    other = begun(head="sed")  # a head of another kind does not fit, and begins again
    assert_equal(backbone_of(model.state_dict()), backbone_of(other))
