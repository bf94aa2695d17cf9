"""training.refit: a head that is computed when the epochs of a fold are over."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from datasets.batch import Batch
from storage.errors import ConfigError
from tests.learnable import write_learnable_source
from tests.training.short_training import config_in, short_trainer
from training.config import TrainingConfig
from training.cross_validation import train_folds
from training.model.checkpoints import read_checkpoint
from training.model.config import ModelConfig, RefitConfig
from training.model.cosine_head import ClassMoments
from training.model.models import build_classifier
from training.model.pretrained import COSINE_HEAD, MODEL_PREFIX, Meaning
from training.refit import Compute, main_targets, refit_head
from training.split import fold_data, split_recordings

COMPUTE = Compute(device=torch.device("cpu"), precision="32-true")
REFIT = RefitConfig(kind="cosine", epochs=2)


def state_of(path):
    return torch.load(path, weights_only=True)["state_dict"]


def new_model(source, config):
    return build_classifier(config.model, num_classes=3, slice_shape=source.recipe.slice_shape)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_learnable_source(tmp_path_factory.mktemp("source") / "cells.raw", 36)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> TrainingConfig:
    return config_in(
        tmp_path_factory.mktemp("trained"),
        model=ModelConfig(backbone="test_resnet", views=[[1, 1], [1, 2]]),
        trainer=short_trainer(epochs=1),
        refit=REFIT,
        train_folds=[1],
    )


@pytest.fixture(scope="module")
def experiment(source, config):
    return train_folds(source, config).experiment


@pytest.fixture(scope="module")
def checkpoint(experiment):
    return experiment.weights / "fold_1.ckpt"


def test_the_checkpoint_predicts_as_the_training_did(source, experiment, checkpoint):
    trained = read_checkpoint(checkpoint)
    assert trained.model.cosine_head is not None
    oof = pl.read_parquet(experiment.preds / "oof.parquet")
    slices = torch.from_numpy(source.read(oof["row"].to_numpy())).float() / 255
    with torch.inference_mode():
        found = trained.model(slices).logits.softmax(1)
    written = oof.select("p_a", "p_b", "p_c").to_numpy()
    np.testing.assert_allclose(found, written, rtol=1e-4, atol=1e-6)


def test_all_else_is_what_training_without_it_gives(source, config, checkpoint, tmp_path):
    plain = replace(config, refit=RefitConfig(), experiment=config_in(tmp_path).experiment)
    other = train_folds(source, plain).experiment.weights / "fold_1.ckpt"
    refit, learned = state_of(checkpoint), state_of(other)
    computed = {name for name in refit if name.startswith(f"{MODEL_PREFIX}{COSINE_HEAD}")}
    assert computed == set(refit) - set(learned) != set()
    assert all(torch.equal(refit[name], learned[name]) for name in learned)
    assert read_checkpoint(other).model.cosine_head is None


def test_the_head_is_of_the_slices_that_the_plan_draws_as_they_are_stored(
    source, config, checkpoint
):
    """A loop over the plan: the slices of two epochs, and the labels of their recordings."""
    split = split_recordings(source, config)
    planner = fold_data(source, split, 1, config).planner()
    model = new_model(source, config)
    learned = {name: value for name, value in state_of(checkpoint).items() if "cosine" not in name}
    model.load_state_dict({name.removeprefix(MODEL_PREFIX): learned[name] for name in learned})
    moments = ClassMoments(num_classes=3, sizes=model.eval().embedding_sizes)
    for epoch in range(REFIT.epochs):
        drawn = planner(epoch).rows
        assert len(drawn) % config.trainer.effective_batch_size == 0  # none is left out
        number = np.searchsorted(source.table["first_row"].to_numpy(), drawn, side="right") - 1
        cells = torch.from_numpy(source.read(drawn)).float() / 255
        with torch.inference_mode():
            embeddings = model(cells).embedding
        moments.add(embeddings, torch.from_numpy(split.targets.of(drawn, number)))  # all primary
    trained = read_checkpoint(checkpoint).model
    found, wanted = trained.cosine_head(embeddings), moments.head(REFIT)(embeddings)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-2)


def test_again_gives_the_same(source, config, checkpoint, tmp_path):
    copy = tmp_path / "fold_1.ckpt"
    copy.write_bytes(checkpoint.read_bytes())
    data = fold_data(source, split_recordings(source, config), 1, config)
    assert refit_head(copy, data, REFIT, COMPUTE) == []
    again, before = state_of(copy), state_of(checkpoint)
    assert list(again) == list(before)
    assert all(torch.equal(again[name], before[name]) for name in before)


def test_training_that_begins_with_it_has_its_learned_heads(source, config, checkpoint):
    start = replace(config.model, weights_file=str(checkpoint))
    labels = split_recordings(source, config).labels.names
    model = build_classifier(
        start,
        num_classes=3,
        slice_shape=source.recipe.slice_shape,
        meaning=Meaning(labels, source.recipe),
    )
    learned = state_of(checkpoint)
    assert model.cosine_head is None
    for number, view in enumerate(model.views):
        assert torch.equal(view.head.weight, learned[f"model.views.{number}.head.weight"])


def test_while_it_learns_a_model_has_its_learned_heads(checkpoint, source):
    model = read_checkpoint(checkpoint).model
    slices = torch.rand(3, *source.recipe.slice_shape, generator=torch.Generator().manual_seed(0))
    learned = [view(slices).logits.softmax(1) for view in model.views]
    computed = model(slices).logits
    model.train()
    for view in model.views:
        view.eval()  # no dropout, and the norms' statistics that there are
    found = model(slices).logits
    torch.testing.assert_close(found.softmax(1), sum(learned) / len(learned))
    assert not torch.allclose(found, computed)


def test_a_head_of_other_settings_replaces_the_one_that_was_there(
    source, config, checkpoint, tmp_path
):
    copy = tmp_path / "fold_1.ckpt"
    copy.write_bytes(checkpoint.read_bytes())
    data = fold_data(source, split_recordings(source, config), 1, config)
    refit_head(copy, data, replace(REFIT, scale=5.0), COMPUTE)
    found, before = read_checkpoint(copy), read_checkpoint(checkpoint)
    assert found.config["refit"]["scale"] == 5.0
    slices = torch.rand(3, *source.recipe.slice_shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scaled = before.model(slices).logits * 5.0 / REFIT.scale
        torch.testing.assert_close(found.model(slices).logits, scaled)


def test_only_the_largest_target_of_a_slice_counts():
    """Secondary labels and unknown classes say nothing about a class; equal ones count alike."""
    targets = torch.tensor([[1.0, 0.5, 0.0], [0.2, 0.1, 0.0], [torch.nan, 1.0, 1.0], [0.0] * 3])
    batch = Batch(torch.zeros(4, 1, 1), targets, *[torch.arange(4)] * 3, torch.tensor(0))
    wanted = torch.tensor([[1.0, 0, 0], [0.2, 0, 0], [0, 1, 1], [0, 0, 0]])
    assert torch.equal(main_targets(batch), wanted)


@pytest.mark.parametrize("model", [{"head": "sed"}, {"output": "sigmoid"}])
def test_models_that_it_does_not_fit_are_refused(model):
    with pytest.raises(ConfigError, match=r"refit\.kind=cosine .* model\.head=linear and"):
        TrainingConfig(model=ModelConfig(**model), refit=REFIT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "lda"}, "refit.kind=lda is none of none, cosine"),
        ({"shrinkage": 0.0}, "refit.shrinkage=0 must be positive"),
        ({"shrinkage": 1.5}, "refit.shrinkage=1.5 must lie between 0 and 1"),
        ({"scale": 0.0}, "refit.scale=0 must be positive"),
        ({"epochs": 0}, "refit.epochs=0 must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        RefitConfig(**options)
