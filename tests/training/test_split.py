"""training.split: classes, limits and folds of a training."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from datasets.augment.mix import MixupConfig
from datasets.augment.pipeline import AugmentConfig
from datasets.folds import FoldConfig
from datasets.labels import LabelConfig
from storage.errors import ConfigError
from tests.fakes import write_fake_source
from training.config import TrainingConfig
from training.split import split_recordings


@pytest.fixture
def source(tmp_path):
    return write_fake_source(tmp_path / "cells.raw", [2] * 12, seed=1)  # labels a, b, c in turn


def with_column(source, name, values):
    fields = {field: getattr(source, field) for field in source.__dataclass_fields__}
    table = source.table.with_columns(pl.Series(name, values))
    return type(source)(**{**fields, "table": table})


def test_folds_below_zero_are_held_out_only_when_asked(source):
    folded = with_column(source, "fold", [-1, 0, 1] * 4)
    folds = FoldConfig(cv="column")
    assert split_recordings(folded, TrainingConfig(folds=folds)).train_folds == (0, 1)
    asked = TrainingConfig(folds=folds, train_folds=[-1])
    assert split_recordings(folded, asked).train_folds == (-1,)


def test_a_limit_takes_each_class_first(source):
    common = with_column(source, "primary_label", ["a"] * 10 + ["b", "c"])
    folds = FoldConfig(cv="kfold", num_folds=2)
    split = split_recordings(common, TrainingConfig(folds=folds, limit=4))
    used = split.recordings.filter(split.used_R)["primary_label"]
    assert sorted(used) == ["a", "a", "b", "c"]


def test_classes_may_be_given_with_some_that_have_no_recording(source):
    folds = FoldConfig(num_folds=2)
    config = TrainingConfig(folds=folds, labels=LabelConfig(classes=["c", "emu", "b", "a"]))
    split = split_recordings(source, config)
    assert split.labels.names == ("c", "emu", "b", "a")
    assert np.flatnonzero(split.targets.hard.sum(0) == 0).tolist() == [1]
    with pytest.raises(ConfigError, match="1 primary labels are not among the 2 classes"):
        split_recordings(
            source, TrainingConfig(folds=folds, labels=LabelConfig(classes=["a", "b"]))
        )


def test_absolute_cells_are_not_added_in_power(source):
    fields = {field: getattr(source, field) for field in source.__dataclass_fields__}
    recipe = replace(source.recipe, normaliser="log")
    absolute = type(source)(**{**fields, "recipe": recipe})
    folds = FoldConfig(num_folds=2)
    split_recordings(absolute, TrainingConfig(folds=folds))
    augment = AugmentConfig(mixup=MixupConfig(p=0.5, domain="power"))
    with pytest.raises(
        ConfigError, match=r"needs recipe\.normaliser=slice_max; this store has log"
    ):
        split_recordings(absolute, TrainingConfig(folds=folds, augment=augment))
