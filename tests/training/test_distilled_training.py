"""Whole trainings with a teacher: phases, what is kept, resuming, and starting from the result."""

from contextlib import contextmanager
from dataclasses import asdict, replace

import numpy as np
import polars as pl
import pytest
import torch

from storage.errors import ConfigError, DamageError
from tests.learnable import write_learnable_source
from tests.training.short_training import config_in, short_trainer
from training.cross_validation import train_folds
from training.model.checkpoints import read_checkpoint
from training.model.config import ModelConfig
from training.model.learning.distillation_config import TeacherConfig
from training.model.metrics import Truth
from training.model.models import build_classifier
from training.model.pretrained import TEACHER_PREFIX, Meaning

WIDTH = 5
WEIGHT = 2.0
PHASE = 2  # epochs of the teacher alone


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_learnable_source(tmp_path_factory.mktemp("source") / "cells.raw", 24)


@pytest.fixture(scope="module")
def embeddings(source, tmp_path_factory):
    return write_embeddings(source, tmp_path_factory.mktemp("teacher") / "embeddings.parquet", 0)


def write_embeddings(source, path, seed):
    values = np.random.default_rng(seed).normal(size=(len(source.index), WIDTH))
    embedding = pl.Series("embedding", values.astype(np.float32)).arr.to_list()
    source.index.select("row", "recording_id").with_columns(embedding).write_parquet(path)
    return path


def config(root, embeddings, **options):
    teacher = TeacherConfig(
        embeddings=str(embeddings), phase="first", epochs=PHASE, weight=WEIGHT, **options
    )
    trainer = short_trainer(epochs=4, patience=1, checkpoint_steps=2, logger="csv")
    return config_in(root, train_folds=[1], trainer=trainer, teacher=teacher)


@contextmanager
def failing(at_score):
    """Meets a damaged slice when scores are made for so many times."""
    score, times = Truth.score, iter(range(1, 1000))

    def score_or_fail(self, *values):
        if next(times) == at_score:
            raise DamageError("slice 7 is damaged")
        return score(self, *values)

    Truth.score = score_or_fail
    try:
        yield
    finally:
        Truth.score = score


@pytest.fixture(scope="module")
def whole(source, embeddings, tmp_path_factory):
    """A training that is never stopped: two epochs of the teacher alone, then labels too."""
    return train_folds(source, config(tmp_path_factory.mktemp("whole"), embeddings))


def oof(report):
    return pl.read_parquet(report.experiment.preds / "oof.parquet")


def log_of(report):
    """Losses by epoch."""
    log = pl.read_csv(report.experiment.preds / "log" / "fold_1" / "metrics.csv")
    return log.drop_nulls("train_teacher_loss").sort("epoch")


def test_the_first_epochs_learn_the_teacher_alone(whole):
    log = log_of(whole)
    teacher = WEIGHT * log["train_teacher_loss"].to_numpy()
    losses = log["train_loss_epoch"].to_numpy()
    assert len(losses) >= PHASE + 1
    np.testing.assert_allclose(losses[:PHASE], teacher[:PHASE], rtol=1e-5)
    assert (losses[PHASE:] > teacher[PHASE:] + 0.05).all()
    assert teacher[-1] < teacher[0]


def test_epochs_of_the_teacher_alone_are_neither_kept_nor_out_of_patience(whole):
    """Patience is 1: two epochs without labels would have ended the training."""
    (fold,) = whole.folds
    assert fold.best_epoch > PHASE
    assert fold.num_epochs > PHASE


def test_the_projection_is_in_the_checkpoint_and_not_in_predictions(source, whole, tmp_path):
    path = whole.experiment.weights / "fold_1.ckpt"
    state = torch.load(path, weights_only=True)
    projection = [name for name in state["state_dict"] if name.startswith(TEACHER_PREFIX)]
    assert projection == [f"{TEACHER_PREFIX}projections.0.{name}" for name in ("weight", "bias")]
    for name in projection:
        del state["state_dict"][name]
    torch.save(state, tmp_path / "without.ckpt")
    slices = torch.from_numpy(source.cells[:5]) / 255
    with torch.inference_mode():
        first, second = (
            read_checkpoint(one).model(slices) for one in (path, tmp_path / "without.ckpt")
        )
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.embedding, second.embedding)


def test_a_training_may_begin_with_the_weights_of_a_distilled_one(source, whole):
    path = whole.experiment.weights / "fold_1.ckpt"
    trained = read_checkpoint(path)
    model = build_classifier(
        ModelConfig(backbone="test_resnet", weights_file=str(path)),
        num_classes=3,
        slice_shape=source.recipe.slice_shape,
        meaning=Meaning(trained.labels.names, source.recipe),
    )
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)  # the head's too


@pytest.mark.parametrize(
    "at_score", [pytest.param(2, id="teacher alone", marks=pytest.mark.slow), 3]
)
def test_stopped_in_either_phase_it_resumes_to_the_same_weights(
    source, embeddings, whole, tmp_path, at_score
):
    with pytest.raises(DamageError), failing(at_score):
        train_folds(source, config(tmp_path, embeddings))
    other = write_embeddings(source, tmp_path / "other.parquet", 1)
    with pytest.raises(ConfigError, match=r"teacher: \w+ then, \w+ now"):
        train_folds(source, config(tmp_path, other), resume="exp_001")
    done = train_folds(source, config(tmp_path, embeddings), resume="exp_001")
    assert done.folds[0].best_epoch == whole.folds[0].best_epoch
    assert oof(done).equals(oof(whole))


def test_embeddings_that_lack_slices_are_refused_before_a_number_is_taken(
    source, embeddings, tmp_path
):
    frame = pl.read_parquet(embeddings)
    frame[:-2].write_parquet(tmp_path / "fewer.parquet")
    with pytest.raises(ConfigError, match=r"2 of \d+ slices to learn from have no embedding"):
        train_folds(source, config(tmp_path / "lab", tmp_path / "fewer.parquet"))
    assert not (tmp_path / "lab").exists()


def test_without_a_teacher_a_config_is_what_it_was(tmp_path):
    plain = config_in(tmp_path)
    assert not plain.teacher.given
    assert asdict(replace(plain, teacher=TeacherConfig())) == asdict(plain)
