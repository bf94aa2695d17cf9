"""A checkpoint of 206 classes predicts in a fresh process, in a folder where nothing else is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datasets.folds import FoldConfig
from datasets.loading.reader import LoaderConfig
from tests.fakes import FakeSource, write_fake_source
from tests.paths import ROOT
from tests.training.short_training import config_in, short_trainer
from training.cross_validation import train_folds
from training.experiments.report import TrainingReport

NUM_CLASSES = 206
PREDICT = """
import io, json, sys
import numpy as np, torch
from training.model.checkpoints import read_checkpoint
from training.model.models import probabilities
trained = read_checkpoint("fold_0.ckpt")
with torch.inference_mode():
    slices = torch.from_numpy(np.load(io.BytesIO(sys.stdin.buffer.read()))).float() / 255
    logits, _ = trained.model(slices)
    found = probabilities(logits, trained.model_config.output)
print(json.dumps({
    "labels": trained.labels.names,
    "recipe": trained.recipe.to_dict(),
    "epochs": trained.config["trainer"]["epochs"],
    "fold": trained.fold,
    "probabilities": found.tolist(),
}))
"""
PLAIN = """
import json, torch
checkpoint = torch.load("fold_0.ckpt", weights_only=True)
print(json.dumps([list(checkpoint), list(checkpoint["state_dict"])]))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> FakeSource:
    path = tmp_path_factory.mktemp("source") / "cells.raw"
    return write_fake_source(path, [1] * (2 * NUM_CLASSES), seed=1, num_labels=NUM_CLASSES)


@pytest.fixture(scope="module")
def report(source: FakeSource, tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    config = config_in(
        tmp_path_factory.mktemp("lab"),
        folds=FoldConfig(cv="stratified", num_folds=2),
        train_loader=LoaderConfig(batch_size=16),
        trainer=short_trainer(epochs=1, effective_batch_size=16),
        train_folds=[0],
    )
    return train_folds(source, config)


@pytest.fixture
def lonely(report: TrainingReport, tmp_path: Path) -> Path:
    """A folder with the checkpoint and nothing else."""
    shutil.copy(report.experiment.weights / "fold_0.ckpt", tmp_path)
    return tmp_path


def run_there(folder: Path, code: str, given: bytes = b"") -> object:
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=given,
        stdout=subprocess.PIPE,
        check=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return json.loads(done.stdout)


def test_it_predicts_what_training_predicted(
    source: FakeSource, report: TrainingReport, lonely: Path, tmp_path_factory
) -> None:
    oof = pl.read_parquet(report.experiment.preds / "oof.parquet").head(20)
    file = tmp_path_factory.mktemp("slices") / "slices.npy"
    np.save(file, source.read(oof["row"].to_numpy()))
    found = run_there(lonely, PREDICT, file.read_bytes())
    assert len(found["labels"]) == NUM_CLASSES
    assert found["labels"] == [name.removeprefix("p_") for name in oof.columns if name[:2] == "p_"]
    assert found["recipe"] == source.recipe.to_dict()
    assert (found["epochs"], found["fold"]) == (1, 0)
    expected = oof.select(f"p_{name}" for name in found["labels"]).to_numpy()
    np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-4, atol=1e-6)
    assert [path.name for path in lonely.iterdir()] == ["fold_0.ckpt"]


def test_torch_alone_can_read_it_and_names_are_those_of_the_model(lonely: Path) -> None:
    keys, names = run_there(lonely, PLAIN)
    assert "melbank" in keys
    assert "optimizer_states" not in keys
    assert "model.views.0.head.weight" in names
    assert not any("_orig_mod" in name for name in names)
