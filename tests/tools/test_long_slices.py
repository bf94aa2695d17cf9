"""Slices of 20 s, from audio to predictions, by a recipe with every option of the spectrogram."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import tools.predict
from datasets.folds import FoldConfig
from datasets.loading.config import LoaderConfig
from datasets.shards.shard_set import open_shards
from datasets.shards.writer import ShardConfig, write_shards
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.sounds import write_source
from tests.training.short_training import config_in, short_trainer
from tools.cli.command import run
from training.cross_validation import train_folds

RECIPE = Recipe(
    sample_rate_hz=4000,
    n_fft=512,
    hop=400,
    n_mels=32,
    fmax_hz=2000,
    slice_s=20.0,
    slice_step_s=10.0,
    power=1,
    mel_scale="htk",
    normaliser="log",
)
SECONDS = (12, 21, 33, 20, 41, 25)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    write_source(folder / "source", SECONDS, np.random.default_rng(4), ending="wav")
    config = SourceConfig(root=str(folder / "source"))
    build_store(config, RECIPE, str(folder / "store"), BuildConfig(workers=1))
    with open_store(str(folder / "store")) as store:
        write_shards(store, str(folder / "shards"), ShardConfig(workers=1))
    return folder


def test_slices_of_20_s_are_built_trained_on_and_predicted(lab, tmp_path):
    shards = open_shards(str(lab / "shards"))
    assert shards.recipe == RECIPE
    assert RECIPE.slice_shape == (32, 201)
    assert shards.recordings().sort("filename")["num_slices"].to_list() == [1, 1, 2, 4, 3, 2]
    config = config_in(
        tmp_path,
        trainer=short_trainer(epochs=1, effective_batch_size=2, logger="csv"),
        train_loader=LoaderConfig(batch_size=2),
        folds=FoldConfig(num_folds=2),
        train_folds=[0],
    )
    report = train_folds(shards, config)
    log = pl.read_csv(report.experiment.preds / "log" / "fold_0" / "metrics.csv")
    assert log["step"].max() >= 1
    words = [
        f"experiment.root={tmp_path}",
        "predict.from=[exp_001]",
        f"predict.input={lab / 'source' / 'train_audio'}",
        f"predict.out={tmp_path / 'out'}",
        "predict.workers=0",
        "predict.step_s=10",
    ]
    assert run(tools.predict.COMMAND, tools.predict.main, words) == 0
    found = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert len(found) == sum([1, 2, 3, 1, 4, 2])
    assert (found["end_s"] - found["start_s"]).max() == 20


def test_a_store_of_absolute_levels_is_louder_where_the_sound_is(lab):
    with open_store(str(lab / "store")) as store:
        index = store.slice_index().filter(~pl.col("silent"))
        cells = store.read(index["row"].to_numpy())
    largest_db = cells.max((1, 2)) / 255 * RECIPE.top_db - RECIPE.top_db + RECIPE.ceiling_db
    np.testing.assert_allclose(largest_db, index["max_db"].to_numpy(), atol=0.16)
    relative = replace(RECIPE, normaliser="slice_max")
    assert relative.relative_to_slice
    assert not RECIPE.relative_to_slice
