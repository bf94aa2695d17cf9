"""training.cross_validation: how a training ends, and that nothing of it is kept."""

import gc
import json
import logging
import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import replace

import polars as pl
import pytest

from datasets.augment.pipeline import AugmentConfig
from datasets.folds import FoldConfig
from datasets.loading.reader import LoaderConfig
from tests.learnable import write_learnable_source
from tests.training.short_training import FOLDS, config_in, short_trainer
from training.cross_validation import train_folds
from training.model.learning.averaging import AveragingConfig
from training.model.learning.optimizers import OptimizerConfig
from training.model.models import Classifier, ModelConfig
from training.module import NonFiniteLossError


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_learnable_source(tmp_path_factory.mktemp("source") / "cells.raw", 72)


@pytest.mark.slow
def test_early_stopping_counts_epochs_without_a_better_kl(source, tmp_path):
    stuck = config_in(
        tmp_path,
        train_folds=[1],
        optimizer=OptimizerConfig(learning_rate=1e-12),
        trainer=short_trainer(epochs=12, patience=2),
        augment=AugmentConfig(),
    )
    result = train_folds(source, stuck).folds[0]
    assert result.num_epochs < 12
    assert result.num_epochs == result.best_epoch + 2


def test_the_last_weights_are_judged_where_they_are_asked_for(source, tmp_path):
    overshooting = config_in(
        tmp_path,
        train_folds=[1],
        optimizer=OptimizerConfig(learning_rate=0.3, final_fraction=1.0, warmup_epochs=0.0),
        trainer=short_trainer(epochs=5, patience=0, keep="last"),
    )
    report = train_folds(source, overshooting)
    log = pl.read_csv(report.experiment.preds / "log" / "fold_1" / "metrics.csv")
    kl = log["val_kl"].drop_nulls()
    assert report.folds[0].best_epoch == 5
    assert report.folds[0].scores["kl"] == pytest.approx(kl[4], rel=1e-4)
    assert kl.min() < kl[4], "the last epoch should not be the best one here"


def test_a_loss_that_is_not_finite_ends_the_experiment_and_cleans_up(source, tmp_path, caplog):
    caplog.set_level("INFO", "training")
    config = config_in(tmp_path, optimizer=OptimizerConfig(learning_rate=1e30, warmup_epochs=0.0))
    with pytest.raises(NonFiniteLossError, match="Rows: "):
        train_folds(source, config)
    assert not list((tmp_path / "weights").iterdir())
    assert not list((tmp_path / "preds").iterdir())
    assert not list((tmp_path / "configs").glob("*.yaml"))
    assert any("ended in NonFiniteLossError" in line for line in caplog.messages)
    again = config_in(tmp_path, train_folds=[1], trainer=short_trainer(epochs=1))
    assert train_folds(source, again).experiment.name == "exp_002"


def test_interrupting_keeps_what_is_there_and_stays_an_interrupt(source, tmp_path):
    config = config_in(tmp_path, trainer=short_trainer(epochs=500, patience=0))
    timer = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            train_folds(source, config)
    finally:
        timer.cancel()
    assert (tmp_path / "configs" / "exp_001.yaml").exists()
    assert (tmp_path / "weights" / "exp_001").is_dir()


@pytest.mark.slow
def test_models_of_finished_folds_are_not_kept(source, tmp_path):
    train_folds(source, config_in(tmp_path, trainer=short_trainer(epochs=1)))
    alive = [thing for thing in gc.get_objects() if type(thing) is Classifier]
    assert not alive


@pytest.mark.slow
def test_memory_does_not_grow_from_fold_to_fold(source, tmp_path):
    """Each fold's model, optimizer and averages are 45 MB; what stays must be less than one."""
    config = config_in(
        tmp_path,
        model=ModelConfig(backbone="resnet10t"),
        trainer=short_trainer(epochs=1, effective_batch_size=48),
        train_loader=LoaderConfig(batch_size=48),
        averaging=AveragingConfig(kind="ema"),
        folds=FoldConfig(cv="column", column="part"),
        train_folds=[],
    )
    parts = source.table.with_columns(part=pl.int_range(pl.len()) % 6)
    done = train_folds(replace(source, table=parts), config)
    left = [result.memory.host_bytes for result in done.folds]
    assert len(left) == 6
    assert min(left) > 50e6
    assert left[-1] - left[0] < 45e6
    assert json.loads((done.experiment.preds / "scores.json").read_text())["folds"][5]["memory"]


def test_an_experiment_goes_on_with_the_folds_that_are_missing(source, tmp_path, caplog):
    """Stopped before its second fold, then failing there, it has still what the first one left."""
    config = config_in(tmp_path, trainer=short_trainer(epochs=1))
    caplog.set_level("INFO", "training")
    stopping, failing = KeyboardInterrupt(), ValueError("the sea is rough")
    with pytest.raises(KeyboardInterrupt), raising_at("fold 3:", stopping):
        train_folds(source, config)
    with pytest.raises(ValueError, match="the sea is rough"), raising_at("fold 3:", failing):
        train_folds(source, config, resume="exp_001")
    weights = (tmp_path / "weights" / "exp_001" / "fold_1.ckpt").stat()
    done = train_folds(source, config, resume="exp_001")
    assert "fold 1: done before" in caplog.messages
    assert [result.fold for result in done.folds] == FOLDS
    assert (done.experiment.weights / "fold_1.ckpt").stat().st_mtime_ns == weights.st_mtime_ns


@contextmanager
def raising_at(start, error):
    """Raises an error in place of the first message of `training.fold` that begins like that."""

    def refuse(record):
        if record.getMessage().startswith(start):
            raise error
        return True

    logging.getLogger("training.fold").addFilter(refuse)
    try:
        yield
    finally:
        logging.getLogger("training.fold").removeFilter(refuse)
