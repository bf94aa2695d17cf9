"""Means of recordings over their slices in a whole training: `trainer.pool`, `pool_scale_db`."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.special import softmax

from datasets.chunks import ChunkConfig
from datasets.sampling.slice_choice import Activity
from storage.errors import ConfigError
from tests.fakes import SMALL
from tests.learnable import write_learnable_source
from tests.training.short_training import config_in, short_trainer
from training.cross_validation import train_folds
from training.inference.evaluation.config import EvaluateConfig
from training.inference.evaluation.evaluate import evaluate
from training.split import fold_data, split_recordings

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


def with_levels(source, seed=4, spread_db=30.0):
    """The source with levels that differ between the slices of a recording."""
    level = np.random.default_rng(seed).uniform(-spread_db, 0, len(source.index))
    return replace(
        source, index=source.index.with_columns(max_db=pl.Series(level, dtype=pl.Float32))
    )


def held_out_data(source, config, fold=1):
    return fold_data(source, split_recordings(source, config), fold, config)


def test_loud_slices_weigh_more(tmp_path):
    source = with_levels(write_learnable_source(tmp_path / "cells.raw", 72))
    trainer = short_trainer(epochs=1, pool_scale_db=10.0)
    report = train_folds(source, config_in(tmp_path, trainer=trainer, train_folds=[1]))
    oof = pl.read_parquet(report.experiment.preds / "oof.parquet")
    weighted = oof.join(source.index.select("row", "max_db"), on="row").with_columns(
        weight=((pl.col("max_db") - pl.col("max_db").max().over("recording_id")) / 10).exp()
    )
    assert weighted.group_by("recording_id").agg(pl.col("weight").max())["weight"].unique()[0] == 1
    mean = (pl.col(CLASSES) * pl.col("weight")).sum() / pl.col("weight").sum()
    means = weighted.group_by("recording_id").agg(mean)
    pooled = pl.read_parquet(report.experiment.preds / "oof_recordings.parquet")
    named = pooled.select("recording_id")
    wanted = named.join(means, on="recording_id", maintain_order="left").select(CLASSES)
    np.testing.assert_allclose(pooled.select(CLASSES), wanted, rtol=1e-5)


def test_weights_are_the_chances_by_which_energy_draws(tmp_path):
    source = with_levels(write_learnable_source(tmp_path / "cells.raw", 36))
    data = held_out_data(source, config_in(tmp_path, trainer=short_trainer(pool_scale_db=7.0)))
    recordings = data.held_out_recordings
    index = source.index.filter(pl.col("recording_id").is_in(recordings["recording_id"].implode()))
    rows = data.held_out_plan().rows
    chances = np.diff(Activity.of(recordings, index, 7.0).cumulative)
    order = np.random.default_rng(0).permutation(len(rows))
    np.testing.assert_allclose(data.pool_weights(rows[order]), chances[order], rtol=1e-5)


def test_a_chunk_is_as_loud_as_its_loudest_slice(tmp_path):
    recipe = replace(SMALL, slice_step_s=SMALL.slice_s)
    source = with_levels(write_learnable_source(tmp_path / "cells.raw", 36, recipe=recipe))
    config = config_in(
        tmp_path,
        trainer=short_trainer(pool_scale_db=10.0),
        chunk=ChunkConfig(length_s=2 * SMALL.slice_s),
    )
    data = held_out_data(source, config)
    level = dict(source.index.select("row", "max_db").iter_rows())
    for first, count in data.held_out_recordings.select("first_row", "num_slices").iter_rows():
        rows = np.arange(first, first + count)
        last = first + max(count - 2, 0)  # where the last chunk of two slices begins
        begins = np.minimum(rows, last)
        louder = [max(level[b], level[min(b + 1, first + count - 1)]) for b in begins]
        wanted = np.exp((np.array(louder) - max(louder)) / 10)
        np.testing.assert_allclose(data.pool_weights(rows), wanted, rtol=1e-5)


def test_no_scale_means_no_weights_and_no_levels_are_read(tmp_path):
    source = write_learnable_source(tmp_path / "cells.raw", 36)
    bare = replace(source, index=source.index.drop("max_db"))
    data = held_out_data(bare, config_in(tmp_path))
    assert data.pool_weights(data.held_out_plan().rows) is None


def test_slices_without_levels_are_refused_before_training(tmp_path):
    source = write_learnable_source(tmp_path / "cells.raw", 36)
    bare = replace(source, index=source.index.drop("max_db"))
    trainer = short_trainer(pool_scale_db=10.0)
    with pytest.raises(ConfigError, match=r"without levels, .* leave out .*trainer\.pool_scale_db"):
        train_folds(bare, config_in(tmp_path, trainer=trainer))
    assert not (tmp_path / "preds").exists()
