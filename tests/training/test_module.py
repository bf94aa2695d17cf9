"""One step, the guard, decay groups and the schedule."""

import math
import warnings

import numpy as np
import polars as pl
import pytest
import pytorch_lightning as lightning
import torch
from torch.utils.data import DataLoader

from datasets.augment.level import GainConfig
from datasets.augment.pipeline import AugmentConfig
from datasets.batch import Batch
from datasets.labels import Labels
from storage.encoding import to_unit
from storage.errors import MelbankError
from training.config import TrainingConfig
from training.model.learning.losses import bce
from training.model.learning.optimizers import (
    OptimizerConfig,
    build_optimizer,
    build_schedule,
    learning_rate_fraction,
)
from training.model.metrics import Truth
from training.model.models import ModelConfig, build_classifier
from training.module import NonFiniteLossError, SliceModule, check_finite
from training.trainer import quiet_lightning

SHAPE = (16, 24)
LABELS = Labels(("a", "b"))


def module_on(views, config):
    """A module with one network on each of the views."""
    torch.manual_seed(0)
    recordings = pl.DataFrame(
        {"primary_label": ["a", "b"], "secondary_labels": [[], []]},
        schema_overrides={"secondary_labels": pl.List(pl.String)},
    )
    truth = Truth.of(recordings, LABELS, 0.0)
    model_config = ModelConfig(backbone="test_resnet", dropout=0.5, views=views)
    model = build_classifier(model_config, num_classes=2, slice_shape=SHAPE)
    return SliceModule(model, config, truth)


@pytest.fixture
def module():
    return module_on([[1, 1]], TrainingConfig())


def batch_of(slices, *, epoch=2):
    num = len(slices)
    return Batch(
        slices=slices,
        targets=torch.eye(2)[torch.arange(num) % 2],
        rows=torch.arange(num) * 10 + 1000,
        recording_no=torch.arange(num) % 2,
        position=torch.arange(num),
        epoch=torch.tensor(epoch),
    )


@pytest.mark.parametrize(
    "stored",
    [
        torch.tensor([0, 51, 255], dtype=torch.uint8),
        torch.tensor([0.0, 0.2, 1.0], dtype=torch.float16),
        torch.tensor([0.0, 0.2, 1.0]),
    ],
    ids=["uint8", "float16", "float32"],
)
def test_stored_slices_of_any_kind_become_floats_from_0_to_1(stored):
    values = to_unit(stored)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, torch.tensor([0.0, 0.2, 1.0]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=["nan", "inf"])
def test_a_loss_that_is_not_finite_names_its_rows(bad):
    losses = torch.tensor([0.0, bad, 1.0, bad])
    with pytest.raises(NonFiniteLossError, match=r"epoch 2 .* 2 of 4 rows.* Rows: 1010, 1030$"):
        check_finite(losses, batch_of(torch.zeros(4, *SHAPE)))
    assert issubclass(NonFiniteLossError, MelbankError)


def test_lost_weights_are_told_from_bad_slices():
    with pytest.raises(NonFiniteLossError, match="the weights are gone"):
        check_finite(torch.full((2,), math.nan), batch_of(torch.zeros(2, *SHAPE)))


def test_the_guard_watches_every_training_step(module):
    slices = torch.rand(4, *SHAPE)
    slices[2, 3, 3] = math.nan
    module.eval()  # batch norm would spread it over the batch
    with pytest.raises(NonFiniteLossError, match=r"Rows: 1020$"):
        module.training_step(batch_of(slices), 0)


def test_validation_is_guarded_too(module):
    module.model.views[0].head.weight.data.fill_(math.nan)
    with pytest.raises(NonFiniteLossError, match=r"the weights are gone.* Rows: 1000, 1010$"):
        module.validation_step(batch_of(torch.rand(2, *SHAPE)), 0)


def test_each_view_learns_from_the_batch_in_an_augmentation_of_its_own():
    config = TrainingConfig(augment=AugmentConfig(gain=GainConfig(p=1.0)))
    module = module_on([[1, 1], [1, 1]], config).eval()
    first, second = module.model.views
    second.load_state_dict(first.state_dict())
    batch, seen = batch_of(torch.rand(4, *SHAPE)), []
    for view in module.model.views:
        view.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    losses = module.training_losses(batch)
    assert not torch.isclose(seen[0], seen[1]).flatten(1).all(1).any()
    alone = [bce(first(slices).logits, batch.targets) for slices in list(seen)]  # the hooks go on
    torch.testing.assert_close(losses, torch.stack(alone).mean(0))
    again = module_on([[1, 1]], config).eval()  # the first view does what a single one does
    torch.testing.assert_close(again.training_losses(batch), alone[0])


def test_a_batch_without_targets_is_refused(module):
    with pytest.raises(ValueError, match="without targets"):
        module.validation_step(batch_of(torch.zeros(2, *SHAPE))._replace(targets=None), 0)


def test_scores_are_of_all_slices_and_an_empty_batch_adds_nothing(module):
    """A rank may be given an empty batch, so that it does not end before the others."""
    slices = torch.rand(7, *SHAPE)
    whole = batch_of(slices)
    parts = [
        Batch(*(field[take] if field is not None and field.ndim else field for field in whole))
        for take in (slice(0, 4), slice(4, 4), slice(4, 7))
    ]
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    with quiet_lightning(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's, on batches that are no DataLoader's
        loader = DataLoader(parts, batch_size=None)
        (logged,) = trainer.validate(module, dataloaders=loader, verbose=False)
    module.eval()
    with torch.no_grad():
        logits = module.model(slices).logits
    expected = module._truth.score(logits.softmax(1).numpy(), whole.recording_no.numpy())
    assert module.scores["kl"] == pytest.approx(expected["kl"])
    assert logged["val_kl"] == pytest.approx(expected["kl"])
    assert logged["val_accuracy"] == pytest.approx(expected["accuracy"])
    assert logged["val_loss"] == pytest.approx(float(bce(logits, whole.targets).mean()), rel=1e-5)


def test_dropout_depends_on_seed_epoch_and_batch_alone(module):
    def drawn(batch_idx):
        module.on_train_batch_start(batch_of(torch.zeros(2, *SHAPE)), batch_idx)
        return torch.rand(3)

    first = drawn(5)
    torch.rand(11)
    assert torch.equal(drawn(5), first)
    assert not torch.equal(drawn(6), first)


def test_weights_are_decayed_and_vectors_are_not(module):
    optimizer = build_optimizer(module.model, OptimizerConfig(weight_decay=0.3))
    decayed, free = optimizer.param_groups
    assert decayed["weight_decay"] == 0.3
    assert free["weight_decay"] == 0
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert all(parameter.ndim == 1 for parameter in free["params"])
    num_parameters = len(decayed["params"]) + len(free["params"])
    assert num_parameters == len(list(module.model.parameters()))


def test_the_learning_rate_warms_up_then_follows_a_cosine():
    options = {"num_steps": 110, "warmup_steps": 10, "final_fraction": 0.1}
    rates = [learning_rate_fraction(step, **options) for step in range(110)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert max(rates) == rates[9] == 1
    assert all(np.diff(rates[9:]) < 0)
    assert rates[59] == pytest.approx(0.55)  # half way
    assert rates[-1] == pytest.approx(0.1)
    assert learning_rate_fraction(500, **options) == pytest.approx(0.1)


def test_the_schedule_counts_warm_up_in_epochs_and_moves_at_every_step(module):
    config = OptimizerConfig(learning_rate=0.5, warmup_epochs=2.0, final_fraction=0.0)
    optimizer = build_optimizer(module.model, config)
    schedule = build_schedule(optimizer, config, num_steps=40, num_epochs=10)
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:8] == pytest.approx([0.5 * step / 8 for step in range(1, 9)])
    assert all(np.diff(rates) != 0)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_no_warm_up_starts_near_the_peak():
    rate = learning_rate_fraction(0, num_steps=100, warmup_steps=0, final_fraction=0)
    assert rate == pytest.approx(1, abs=1e-3)
