"""The YAML files in configs/: each is valid, and base.yaml has the defaults that were promised."""

from contextlib import closing
from operator import attrgetter

import numpy as np
import polars as pl
import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from datasets.sources.mix import MixedSource, SourceMix
from storage.recipe import Recipe
from tests.learnable import write_learnable_source
from tests.tools.test_train import CONFIGS
from tools import ablate
from tools.cli.config import load_config
from tools.cli.training_inputs import TrainSections
from training.cross_validation import train_folds
from training.model.learning.optimizers import build_optimizer, build_schedule
from training.model.models import build_classifier
from training.module import SliceModule
from training.split import fold_data, split_recordings
from training.trainer import build_trainer, choose_machine


@pytest.fixture(scope="module")
def base():
    return load_config(TrainSections, str(CONFIGS / "base.yaml"))


@pytest.fixture
def callbacks(base, tmp_path):
    """Callbacks that stop training and keep weights."""
    trainer = build_trainer(
        base.trainer,
        choose_machine(base.trainer, 313),
        batches_per_step=1,
        weights_folder=tmp_path,
        loggers=[],
        callbacks=[],
    )
    return trainer.callbacks


PROMISED = {
    "folds.cv": "stratified_group",
    "folds.num_folds": 5,
    "train_folds": [0, 1, 2],
    "loss.name": "bce",
    "model.pooling": "avgmax",
    "model.output": "softmax",
    "averaging.kind": "swa",
    "averaging.start": 15 / 20,
    "trainer.epochs": 20,
    "trainer.effective_batch_size": 16,
    "trainer.precision": "auto",  # bf16 where the hardware computes it
    "trainer.compile": "auto",  # where it pays
    "trainer.logger": "auto",  # wandb where it is installed
    "trainer.detect_anomaly": False,
}


@pytest.mark.parametrize("key", PROMISED)
def test_base_has_what_was_promised(base, key):
    assert attrgetter(key)(base) == PROMISED[key]


def test_base_takes_adamw(base):
    model = build_classifier(base.model, num_classes=3, slice_shape=(64, 64))
    assert type(build_optimizer(model, base.optimizer)) is torch.optim.AdamW


def test_base_warms_up_for_an_epoch_and_then_follows_a_cosine(base):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], lr=base.optimizer.learning_rate)
    schedule = build_schedule(optimizer, base.optimizer, num_steps=2000, num_epochs=20)
    rates = []
    for _ in range(2000):
        rates.append(schedule.get_last_lr()[0] / base.optimizer.learning_rate)
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(rates[:100], np.arange(1, 101) / 100)
    angle = np.pi * np.arange(1, 1901) / 1900
    np.testing.assert_allclose(rates[100:], 0.01 + 0.99 * (1 + np.cos(angle)) / 2)


def test_base_stops_after_four_epochs_without_a_better_kl(callbacks):
    (stopping,) = (one for one in callbacks if isinstance(one, EarlyStopping))
    assert (stopping.monitor, stopping.mode, stopping.patience) == ("val_kl", "min", 4)


def test_base_keeps_the_weights_of_the_best_kl(callbacks):
    kept = [one.monitor for one in callbacks if isinstance(one, ModelCheckpoint)]
    assert "val_kl" in kept


def test_base_gives_the_backbone_one_channel(base):
    model = build_classifier(base.model, num_classes=3, slice_shape=(64, 64))
    first = next(part for part in model.modules() if isinstance(part, torch.nn.Conv2d))
    assert first.in_channels == 1


def test_debug_looks_for_anomalies():
    debug = load_config(TrainSections, str(CONFIGS / "debug.yaml"))
    assert debug.trainer.detect_anomaly
    assert choose_machine(debug.trainer, 313).logger.value == "csv"


WHOLE = Recipe(
    sample_rate_hz=8000,
    n_fft=256,
    hop=125,
    n_mels=32,
    fmax_hz=4000,
    slice_s=0.5,
    slice_step_s=0.5,
)
LIGHT = ("model.backbone=test_resnet", "model.pretrained=false", "train_folds=[1]")
SMALL = ("train_loader.batch_size=4", "trainer.effective_batch_size=4", "trainer.epochs=1")
QUICK = ("trainer.accelerator=cpu", "trainer.threads=1", "trainer.progress=false")
FILES = pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)


@FILES
def test_each_config_file_is_valid(file):
    load_config(ablate.TrainSections, str(file))  # those of training, and which variants there are


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """20 recordings of three classes and three authors, with the columns that configs name."""
    folder = tmp_path_factory.mktemp("source")
    source = write_learnable_source(folder / "cells.raw", 20, recipe=WHOLE)
    author = pl.Series([f"author {number // 2}" for number in range(20)])
    object.__setattr__(source, "table", source.table.with_columns(author=author))
    return source


def small_config(file, folder):
    """Backbone, size and length of chunks are small, all other keys those of the file."""
    words = [*LIGHT, *SMALL, *QUICK, f"experiment.root={folder}", "trainer.logger=csv"]
    if load_config(ablate.TrainSections, str(file)).chunk.length_s:
        words.append("chunk.length_s=1")
    return load_config(ablate.TrainSections, str(file), words)


def sources_of(config, recordings):
    """The recordings themselves or, of a config with sources, a mix in which each has all."""
    if not config.sources:
        return recordings
    mix = [MixedSource(name=n, source=recordings, shared_ids="rename") for n in config.sources]
    return SourceMix(mix)


@FILES
def test_each_config_file_takes_two_steps_on_a_cpu(file, recordings, tmp_path):
    config = small_config(file, tmp_path)
    source = sources_of(config, recordings)
    split = split_recordings(source, config)
    data = fold_data(source, split, 1, config)
    shape = data.chunks.shape(WHOLE)
    model = build_classifier(config.model, num_classes=len(split.labels), slice_shape=shape)
    module = SliceModule(model, config, split.truth).train()
    optimizer = build_optimizer(model, config.optimizer)
    schedule = build_schedule(optimizer, config.optimizer, num_steps=2, num_epochs=1)
    before = [weight.clone() for weight in model.parameters()]
    with closing(data.train_reader(accumulation=1)) as reader:
        for _, batch in zip(range(2), reader, strict=False):
            optimizer.zero_grad()
            module.training_losses(batch).mean().backward()
            optimizer.step()
            schedule.step()
    assert schedule.last_epoch == 2
    pairs = zip(before, model.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in pairs)
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


@pytest.mark.slow
@FILES
def test_each_config_file_trains_and_is_scored_on_a_cpu(file, recordings, tmp_path):
    config = small_config(file, tmp_path)
    report = train_folds(sources_of(config, recordings), config)
    log = pl.read_csv(report.experiment.preds / "log" / "fold_1" / "metrics.csv")
    assert log["train_loss_step"].drop_nulls().len() >= 2
    assert report.folds[0].num_epochs == 1
    assert report.pooled["kl"] > 0


def test_esc10_keeps_the_official_folds():
    config = load_config(TrainSections, str(CONFIGS / "esc10.yaml"))
    assert (config.folds.cv, config.folds.column, config.train_folds) == ("column", "fold", [])


@pytest.mark.parametrize("name", ["esc10", "esc10_gpu", "esc10_ablation"])
def test_no_epoch_of_esc10_is_chosen_by_the_fold_that_is_held_out(name):
    config = load_config(ablate.TrainSections, str(CONFIGS / f"{name}.yaml"))
    assert (config.trainer.keep, config.trainer.patience) == ("last", 0)
