"""Frozen backbones, starting with a backbone alone, and resuming with every new setting."""

import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch.utils.data import DataLoader

from datasets.batch import Batch
from datasets.labels import LabelConfig, Labels
from storage.errors import ConfigError
from storage.recipe import Recipe
from tests.learnable import write_learnable_source
from tests.training.short_training import config_in, short_trainer
from training import fold as fold_module
from training.config import TrainingConfig
from training.cross_validation import train_folds
from training.model.checkpoints import checkpoint_contents, read_checkpoint
from training.model.config import ModelConfig
from training.model.groups import build_groups, num_groups
from training.model.learning.averaging import AveragingConfig
from training.model.learning.losses import LossConfig
from training.model.learning.optimizers import OptimizerConfig
from training.model.metrics import Truth
from training.model.models import build_classifier
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
    """Equal ones, since a plain loader begins again where a training resumes within an epoch."""
    batch = Batch(
        slices=torch.rand(BATCH, *SHAPE, generator=torch.Generator().manual_seed(1)),
        targets=torch.eye(3)[torch.arange(BATCH) % 3],
        rows=torch.arange(BATCH),
        recording_no=torch.arange(BATCH) % 3,
        position=torch.arange(BATCH),
        epoch=torch.tensor(0),
    )
    return [batch] * BATCHES


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


@pytest.mark.parametrize("accumulation", [2, pytest.param(1, marks=pytest.mark.slow)])
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


MOST = "sed, groups, drop_path"
NEW = {
    MOST: TrainingConfig(
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


NEW_CASES = [name if name == MOST else pytest.param(name, marks=pytest.mark.slow) for name in NEW]


@pytest.mark.parametrize("name", NEW_CASES)
def test_resuming_equals_never_having_stopped(name, tmp_path):
    """From within an epoch, and, of the slow ones, from its end."""
    groups = GROUPS if "groups" in name else ()
    whole, _ = fit(module_of(NEW[name], groups=groups), tmp_path)
    for step in (6,) if name == MOST else (4, 6):
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


@pytest.mark.slow
def test_a_whole_training_with_frames_groups_and_the_best_epochs(tmp_path):
    """Its checkpoint is enough by itself, and gives the predictions that were written."""
    source = write_learnable_source(tmp_path / "cells.raw", 48)
    genus = pl.col("primary_label").replace_strict({"a": "x", "b": "x", "c": "y"})
    config = config_in(
        tmp_path,
        model=ModelConfig(backbone="test_resnet", head="sed", freeze_epochs=1),
        loss=LossConfig(clip_weight=0.5, frame_weight=0.5),
        labels=LabelConfig(groups=["genus"]),
        averaging=AveragingConfig(kind="best", best_k=2),
        trainer=short_trainer(epochs=3),
        train_folds=[1],
    )
    with pytest.raises(ConfigError, match="names genus, of which the 3 classes have none"):
        train_folds(source, config)
    named = replace(source, table=source.table.with_columns(genus=genus))
    done = train_folds(named, config)
    trained = read_checkpoint(done.experiment.weights / "fold_1.ckpt")
    assert trained.groups[0].names == ("x", "y")
    assert trained.model.has_frames
    oof = pl.read_parquet(done.experiment.preds / "oof.parquet")
    slices = torch.from_numpy(named.read(oof["row"].to_numpy())).float() / 255
    with torch.inference_mode():
        found = trained.model(slices).logits.softmax(1)
    written = oof.select("p_a", "p_b", "p_c").to_numpy()
    np.testing.assert_allclose(found, written, rtol=1e-4, atol=1e-6)
    assert not any((done.experiment.weights).glob(".fold*"))


@pytest.mark.slow
def test_stopped_before_the_mean_of_the_best_epochs_it_is_taken_on_resuming(tmp_path, monkeypatch):
    source = write_learnable_source(tmp_path / "cells.raw", 36)

    def config(root: Path) -> TrainingConfig:
        return config_in(
            root,
            averaging=AveragingConfig(kind="best", best_k=2),
            trainer=short_trainer(epochs=3),
            train_folds=[1],
        )

    def weights(root: Path) -> Weights:
        file = root / "weights/exp_001/fold_1.ckpt"
        return torch.load(file, weights_only=True)["state_dict"]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    train_folds(source, config(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(fold_module, "average_best", stop)
        with pytest.raises(KeyboardInterrupt):
            train_folds(source, config(tmp_path / "stopped"))
    best = tmp_path / "stopped/weights/exp_001/.fold_1/best.ckpt"
    single = torch.load(best, weights_only=True)["state_dict"]
    train_folds(source, config(tmp_path / "stopped"), resume="exp_001")
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    head = "model.views.0.head.weight"
    assert not torch.equal(single[head], weights(tmp_path / "stopped")[head])
