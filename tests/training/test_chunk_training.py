"""Training on chunks, with sounds added in power: from the config to out-of-fold predictions."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from datasets.augment.mix import MixupConfig
from datasets.augment.pipeline import AugmentConfig
from datasets.chunks import ChunkConfig, Chunks
from datasets.injection import InjectSpec
from datasets.levels import Levels
from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import SamplingConfig, plan_all
from datasets.sources.mix import SourceSpec
from storage.errors import ConfigError
from tests.fakes import SMALL
from tests.learnable import write_learnable_source
from tests.training.short_training import config_in, short_trainer
from training.cross_validation import train_folds
from training.fold_data import needs_levels
from training.model.checkpoints import read_checkpoint
from training.model.learning.averaging import AveragingConfig
from training.model.models import ModelConfig, build_classifier
from training.model.predict import predict
from training.module import SliceModule
from training.split import fold_data, split_recordings

RECIPE = replace(SMALL, slice_step_s=0.25)
CHUNK = ChunkConfig(length_s=1.0)
NOTHING = AugmentConfig()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "cells.raw"
    return write_learnable_source(path, 36, recipe=RECIPE)


def config_of(root, **options):
    power = AugmentConfig(mixup=MixupConfig(p=0.7, domain="power", targets="union"))
    return config_in(
        root,
        chunk=CHUNK,
        augment=power,
        model=ModelConfig(backbone="test_resnet", views=[[1, 1], [1, 2]]),
        averaging=AveragingConfig(kind="swa", start=0.0),
        trainer=short_trainer(epochs=2),
        train_folds=[1],
        **options,
    )


def test_every_held_out_row_is_predicted_once_from_its_chunk(source, tmp_path):
    report = train_folds(source, config_of(tmp_path))
    table = pl.read_parquet(report.experiment.preds / "oof.parquet").sort("row")
    held_out = source.table.filter(fold=1)
    plan = plan_all(held_out)
    assert np.array_equal(table["row"].to_numpy(), plan.rows)
    trained = read_checkpoint(report.experiment.weights / "fold_1.ckpt")
    assert trained.chunks == Chunks(count=2, step=2)
    assert trained.sample_shape == (8, 2 * RECIPE.num_frames)
    reader = BatchReader(
        source,
        lambda _: plan,
        LoaderConfig(),
        targets=None,
        train=False,
        chunks=trained.chunks,
        levels=Levels(source),
    )
    found = predict(trained.model, reader, output="softmax")
    np.testing.assert_allclose(
        table.select(pl.col("^p_.*$")).to_numpy(), found.probabilities, rtol=0, atol=1e-5
    )


def test_levels_are_read_where_something_needs_them_alone(source, tmp_path):
    plain = config_in(tmp_path)
    spec = InjectSpec(source="pool")
    power = AugmentConfig(mixup=MixupConfig(domain="power"))
    assert not needs_levels(plain)
    assert needs_levels(replace(plain, chunk=CHUNK))
    assert needs_levels(replace(plain, augment=power))
    pools = {"pool": SourceSpec(store="pool")}
    injecting = SamplingConfig(inject=[spec])
    assert needs_levels(replace(plain, sampling=injecting, sources=pools))
    split = split_recordings(source, plain)
    assert fold_data(source, split, 1, plain).levels is None


def test_what_cannot_be_joined_is_refused_before_training(source, tmp_path):
    config = config_of(tmp_path)
    blind = replace(source, index=source.index.drop("max_db"))
    with pytest.raises(ConfigError, match="without levels"):
        train_folds(blind, config)
    with pytest.raises(ConfigError, match="no whole number of slices"):
        train_folds(source, replace(config, chunk=ChunkConfig(length_s=0.7)))
    assert not (tmp_path / "preds").exists()


def module_of(config, split, shape):
    torch.manual_seed(0)
    model = build_classifier(config.model, num_classes=len(split.labels), slice_shape=shape)
    return SliceModule(model.eval(), config, split.truth)


def with_partners(reader):
    """Batches of a rank; each third sample has itself, turned around in time, as its partner."""
    for batch in reader:
        pool = torch.where(batch.position % 3 == 0, 0, -1)
        yield batch._replace(
            partner=batch.slices.flip(2),
            partner_levels=batch.levels,
            partner_targets=batch.targets,
            partner_pool=pool,
        )


@pytest.mark.parametrize("world_size", [2, 4])
def test_losses_of_chunks_with_partners_do_not_depend_on_the_ranks(source, tmp_path, world_size):
    """Without mixup, whose partners are those of the batch."""
    spec = InjectSpec(source="pool", targets="union", cap_sum=0.5)
    plain = replace(config_in(tmp_path), chunk=CHUNK, augment=NOTHING)
    pools = {"pool": SourceSpec(store="pool")}
    config = replace(plain, sampling=SamplingConfig(inject=[spec]), sources=pools)
    split = split_recordings(source, plain)
    data = fold_data(source, split, 1, plain)

    def losses(size, world):
        found: dict[int, float] = {}
        loader = replace(config.train_loader, batch_size=size)
        for rank in range(world):
            reader = replace(data, train_loader=loader).train_reader(
                accumulation=1, rank=rank, world_size=world
            )
            module = module_of(config, split, data.chunks.shape(RECIPE))
            for batch in with_partners(reader):
                with torch.no_grad():
                    values = module.training_losses(batch).tolist()
                found |= dict(zip(batch.position.tolist(), values, strict=True))
        return found

    alone, shared = losses(4, 1), losses(4 // world_size, world_size)
    assert alone.keys() == shared.keys()
    np.testing.assert_allclose(list(alone.values()), [shared[key] for key in alone], atol=1e-5)
