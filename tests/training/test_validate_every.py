"""`trainer.validate_every`: what is learned does not depend on it; resuming around validations."""

from contextlib import contextmanager
from dataclasses import replace

import polars as pl
import pytest
import torch

from storage.errors import ConfigError
from tests.learnable import write_learnable_source
from tests.training.short_training import config_in, short_trainer
from training.cross_validation import train_folds
from training.model.learning.averaging import AveragingConfig
from training.model.learning.optimizers import OptimizerConfig
from training.model.metrics import Truth
from training.module import SliceModule

EPOCHS = 5
AVERAGES = {
    "none": AveragingConfig(),
    "swa": AveragingConfig(kind="swa", start=0.2),
    "ema": AveragingConfig(kind="ema", decay=0.9),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_learnable_source(tmp_path_factory.mktemp("source") / "cells.raw", 36)


def config_of(root, every, averaging="none", **options):
    options = {"epochs": EPOCHS, "patience": 0, "keep": "last", "logger": "csv", **options}
    return config_in(
        root,
        train_folds=[1],
        averaging=AVERAGES[averaging],
        trainer=short_trainer(validate_every=every, **options),
    )


def validations(report):
    """The epochs, from 0, that were validated, and their KL."""
    log = pl.concat(
        map(pl.read_csv, sorted((report.experiment.preds / "log").rglob("metrics.csv"))),
        how="diagonal_relaxed",
    )
    table = log.drop_nulls("val_kl").select("epoch", "val_kl").sort("epoch")
    return dict(table.iter_rows())


def weights_of(report):
    path = report.experiment.weights / "fold_1.ckpt"
    return torch.load(path, weights_only=True)["state_dict"]


def assert_same(one, other):
    assert weights_of(one).keys() == weights_of(other).keys()
    for name, value in weights_of(one).items():
        assert torch.equal(value, weights_of(other)[name]), name


@pytest.mark.parametrize(
    "averaging", ["swa", *(pytest.param(name, marks=pytest.mark.slow) for name in ("none", "ema"))]
)
def test_the_last_weights_are_the_same_bit_for_bit(averaging, source, tmp_path):
    each = train_folds(source, config_of(tmp_path / "each", 1, averaging))
    assert [*validations(each)] == [0, 1, 2, 3, 4]
    for every, epochs in ((2, [1, 3, 4]), (9, [4])):
        some = train_folds(source, config_of(tmp_path / str(every), every, averaging))
        assert [*validations(some)] == epochs
        assert some.folds[0].best_epoch == EPOCHS
        assert some.folds[0].scores == each.folds[0].scores
        assert_same(some, each)


def test_the_best_is_the_best_of_those_validated(source, tmp_path):
    report = train_folds(source, config_of(tmp_path, 2, keep="best"))
    found = validations(report)
    assert [*found] == [1, 3, 4]
    assert report.folds[0].best_epoch == 1 + min(found, key=found.get)


@pytest.mark.slow
def test_patience_counts_validations(source, tmp_path):
    config = config_of(tmp_path, 2, keep="best", epochs=12, patience=2)
    stuck = OptimizerConfig(learning_rate=1e-12)
    result = train_folds(source, replace(config, optimizer=stuck)).folds[0]
    assert result.num_epochs < 12
    assert result.num_epochs == result.best_epoch + 4


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """A training with SWA that never stopped."""
    root = tmp_path_factory.mktemp("whole")
    return train_folds(source, config_of(root, 2, "swa", checkpoint_steps=1))


@pytest.mark.parametrize(
    "epochs_done", [2.5, pytest.param(3, marks=pytest.mark.slow), 4.5], ids=str
)
def test_resumed_it_is_as_if_never_stopped(epochs_done, source, whole, tmp_path):
    """Between validations, after an epoch without one, and within the last epoch."""
    stopped = config_of(tmp_path, 2, "swa", checkpoint_steps=1)
    batches = num_batches(whole) * epochs_done
    with pytest.raises(KeyboardInterrupt), interrupted(SliceModule, "training_step", after=batches):
        train_folds(source, stopped)
    resumed = train_folds(source, stopped, resume="exp_001")
    assert validations(resumed) == validations(whole)
    assert_same(resumed, whole)


@pytest.mark.parametrize(
    ("every", "averaging", "keep"),
    [pytest.param(1, "none", "best", marks=pytest.mark.slow), (2, "swa", "last")],
)
def test_stopped_within_a_validation_too(every, averaging, keep, source, tmp_path):
    """The state at an epoch's last step is none to go on from: its validation would be left out."""
    options = {"averaging": averaging, "keep": keep, "checkpoint_steps": 1}
    whole = train_folds(source, config_of(tmp_path / "whole", every, **options))
    stopped = config_of(tmp_path / "stopped", every, **options)
    with pytest.raises(KeyboardInterrupt), interrupted(Truth, "score", after=1):
        train_folds(source, stopped)
    resumed = train_folds(source, stopped, resume="exp_001")
    assert validations(resumed) == validations(whole)
    assert_same(resumed, whole)


def test_no_number_below_one(tmp_path):
    with pytest.raises(ConfigError, match=r"trainer\.validate_every"):
        config_of(tmp_path, 0)


def num_batches(report):
    """Batches of an epoch."""
    log = pl.read_csv(report.experiment.preds / "log" / "fold_1" / "metrics.csv")
    losses = log.drop_nulls("train_loss_step")
    assert len(losses) % EPOCHS == 0
    return len(losses) // EPOCHS * 2  # a step accumulates two batches


@contextmanager
def interrupted(kind, method, *, after):
    """Interrupts a training when a method is called after so many calls."""
    original, done = getattr(kind, method), []

    def call_or_stop(self, *arguments):
        if len(done) >= after:
            raise KeyboardInterrupt
        done.append(None)
        return original(self, *arguments)

    setattr(kind, method, call_or_stop)
    try:
        yield
    finally:
        setattr(kind, method, original)
