"""`trainer.pool=geometric` of a whole training, and the same scores from tools.evaluate."""

import numpy as np
import polars as pl
import pytest
from scipy.special import softmax

from tests.learnable import write_learnable_source
from tests.training.short_training import config_in, short_trainer
from training.cross_validation import train_folds
from training.inference.evaluation.config import EvaluateConfig
from training.inference.evaluation.evaluate import evaluate

CLASSES = ["p_a", "p_b", "p_c"]


def test_recordings_may_have_geometric_means_which_evaluating_knows(tmp_path):
    source = write_learnable_source(tmp_path / "cells.raw", 72)
    trainer = short_trainer(epochs=1, pool="geometric")
    report = train_folds(source, config_in(tmp_path, trainer=trainer, train_folds=[1]))
    oof = pl.read_parquet(report.experiment.preds / "oof.parquet")
    logarithms = oof.group_by("recording_id").agg(pl.col(CLASSES).cast(pl.Float64).log().mean())
    pooled = pl.read_parquet(report.experiment.preds / "oof_recordings.parquet")
    named = pooled.select("recording_id")
    wanted = named.join(logarithms, on="recording_id", maintain_order="left").select(CLASSES)
    found = pooled.select(CLASSES).to_numpy()
    np.testing.assert_allclose(found, softmax(wanted.to_numpy(), axis=1), rtol=1e-5)
    evaluation = evaluate(oof, None, EvaluateConfig(pool="geometric", bootstrap=0))
    assert evaluation.recordings["recording_id"].to_list() == pooled["recording_id"].to_list()
    np.testing.assert_allclose(evaluation.recordings.select(CLASSES), found, rtol=1e-5)
    scores = {level.name: level.scores for level in evaluation.levels}["recordings"]
    assert scores == pytest.approx(report.pooled, rel=1e-4)
