"""Resuming from checkpoints that have moved, that are damaged, or that belong to something else."""

import io
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from storage.errors import ConfigError, DamageError, StoreError
from tests.learnable import write_learnable_source
from tests.training.short_training import config_in, short_trainer
from training.config import TrainingConfig
from training.cross_validation import train_folds
from training.experiments.listing import list_experiments
from training.model.learning.optimizers import OptimizerConfig
from training.model.metrics import Truth
from training.resume import PARTS

FAILS_IN = 4  # epoch


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Labels that cannot be heard, so that the first epochs are the best ones."""
    source = write_learnable_source(tmp_path_factory.mktemp("source") / "cells.raw", 36)
    return replace(source, table=source.table.with_columns(pl.col("primary_label").shuffle(seed=1)))


def config(root: Path) -> TrainingConfig:
    """Five epochs, of which an early one is the best."""
    constant = OptimizerConfig(learning_rate=0.005, final_fraction=1.0, warmup_epochs=0.0)
    trainer = short_trainer(epochs=5, patience=0, checkpoint_steps=2, logger="csv")
    return config_in(root, train_folds=[1], optimizer=constant, trainer=trainer, seed=1)


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """A training that never stopped; its best epoch is before the failure of the others."""
    report = train_folds(source, config(tmp_path_factory.mktemp("whole")))
    assert report.folds[0].best_epoch < FAILS_IN
    return report


@pytest.fixture(scope="module")
def stopped(source, tmp_path_factory):
    """The root of a training that met a damaged slice in its fourth epoch."""
    root = tmp_path_factory.mktemp("stopped")
    with pytest.raises(DamageError), failing(at_score=FAILS_IN):
        train_folds(source, config(root))
    return root


@pytest.fixture
def root(stopped, tmp_path):
    """A copy elsewhere, all files of which are new."""
    shutil.copytree(stopped, tmp_path / "moved", copy_function=shutil.copy)
    return tmp_path / "moved"


@contextmanager
def failing(at_score: int) -> Iterator[None]:
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


def scratch(root: Path) -> Path:
    return root / "weights" / "exp_001" / ".fold_1"


def resume(source, root: Path):
    return train_folds(source, config(root), resume="exp_001")


def oof(report) -> pl.DataFrame:
    return pl.read_parquet(report.experiment.preds / "oof.parquet")


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = torch.load(path, weights_only=True)
    change(values)
    torch.save(values, path)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_shape(values: dict[str, Any]) -> None:
    moments = values["optimizer_states"][0]["state"][0]
    moments["exp_avg"] = moments["exp_avg"][:1]


def other_backbone(values: dict[str, Any]) -> None:
    state = values["state_dict"]
    state["model.views.0.backbone.strange.weight"] = state.pop(next(iter(state)))


BAD = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "half": (halve, "is cut off after"),
    "text": (lambda path: path.write_text("weights"), "is no file of torch"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({"epoch": 3})), "is no file of torch"),
    "flipped": (flip, "is damaged"),
    "code": (lambda path: torch.save({"run": io.StringIO}, path), "nothing of it was run"),
    "list": (lambda path: torch.save([1, 2], path), "is no checkpoint of a training"),
    "weights alone": (
        lambda path: shutil.copy(path.with_name("best.ckpt"), path),
        "has weights alone",
    ),
    "no groups": (
        lambda path: rewrite(path, lambda v: v["optimizer_states"][0]["param_groups"].pop()),
        "1 groups of parameters instead of 2",
    ),
    "other optimizer": (lambda path: rewrite(path, other_shape), "the moments of parameter 0"),
    "other backbone": (lambda path: rewrite(path, other_backbone), "strange.weight has no place"),
    "no loops": (lambda path: rewrite(path, lambda v: v["loops"].clear()), "KeyError"),
    "no callbacks": (lambda path: rewrite(path, lambda v: v["callbacks"].clear()), "it lacks the"),
    **{
        f"no {name}": (
            lambda path, name=name: rewrite(path, lambda v: v.pop(name)),
            "has weights alone" if name == "optimizer_states" else f"it lacks {name}",
        )
        for name in PARTS
    },
}


def test_a_training_that_moved_goes_on_to_the_same_weights(source, whole, root):
    """The file of the most steps is taken, though it has the older time."""
    shutil.copy(scratch(root) / "resume_epoch.ckpt", scratch(root) / "resume_epoch.copy")
    (scratch(root) / "resume_epoch.copy").replace(scratch(root) / "resume_epoch.ckpt")
    done = resume(source, root)
    assert done.folds[0].best_epoch == whole.folds[0].best_epoch
    assert oof(done).equals(oof(whole))


def test_what_failed_is_kept_and_listed_with_the_way_to_go_on(source, stopped, root):
    (record,) = list_experiments(root)
    assert record.status == "failed"
    assert "slice 7 is damaged" in record.reason
    assert "--resume exp_001" in record.reason
    resume(source, root)
    (record,) = list_experiments(root)
    assert (record.status, record.reason) == ("finished", "")


@pytest.mark.parametrize("kind", BAD)
def test_bad_checkpoints_end_in_one_sentence(source, root, kind):
    spoil, message = BAD[kind]
    for path in scratch(root).glob("resume_*.ckpt"):
        spoil(path)
    with pytest.raises(StoreError, match=r"resume_\w+\.ckpt") as caught:
        resume(source, root)
    assert message in str(caught.value)
    assert "resume again" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(scratch(root).glob("resume_*.ckpt")), "nothing may be removed"


@pytest.mark.parametrize("kind", ["empty", "weights alone", "other optimizer"])
def test_the_checkpoint_before_a_bad_one_is_taken_and_said(source, whole, root, kind, caplog):
    caplog.set_level("INFO", "training")
    last = max(
        scratch(root).glob("resume_*.ckpt"),
        key=lambda path: torch.load(path, weights_only=True)["global_step"],
    )
    BAD[kind][0](last)
    done = resume(source, root)
    assert any(last.name in line and "passed over" in line for line in caplog.messages)
    assert any("fold 1: continues after" in line for line in caplog.messages)
    assert oof(done).equals(oof(whole))


def test_best_weights_that_are_damaged_are_not_resumed_with(source, root):
    halve(scratch(root) / "best.ckpt")
    with pytest.raises(StoreError, match=r"best\.ckpt is cut off.*remove .*\.fold_1 to train"):
        resume(source, root)


def test_slices_of_another_recipe_and_other_classes_are_refused_by_name(source, root):
    shape = source.recipe.slice_shape
    other = replace(source, recipe=replace(source.recipe, fmin_hz=50.0))
    assert other.recipe.slice_shape == shape
    with pytest.raises(ConfigError, match=r"recipe\.fmin_hz is 0 there, 50\.0 here"):
        resume(other, root)
    renamed = replace(source, table=source.table.with_columns(pl.col("primary_label") + "x"))
    with pytest.raises(ConfigError, match=r"3 classes, the source 3 \(gone: .*new: "):
        resume(renamed, root)


def test_a_finished_fold_of_other_recordings_is_not_mixed_with_new_ones(source, tmp_path):
    two = replace(config(tmp_path), train_folds=[1, 3])
    with pytest.raises(DamageError), failing(at_score=8):
        train_folds(source, two)
    assert (tmp_path / "weights" / "exp_001" / "fold_1.ckpt").is_file()
    fewer = replace(source, table=source.table.filter(pl.int_range(pl.len()) != 5))
    with pytest.raises(ConfigError, match="fold 1 was trained on other recordings"):
        train_folds(fewer, two, resume="exp_001")
    (tmp_path / "preds" / "exp_001" / ".fold_1.result.json").write_text("{")
    with pytest.raises(StoreError, match=r"result\.json is damaged: remove it"):
        train_folds(source, two, resume="exp_001")
