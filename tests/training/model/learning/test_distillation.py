"""training.model.learning.distillation: distances to a teacher by hand, and phases."""

import math
from dataclasses import replace

import polars as pl
import pytest
import torch

from datasets.augment.mix import MixupConfig
from datasets.augment.pipeline import AugmentConfig
from datasets.batch import Batch
from datasets.labels import Labels
from datasets.sources.mix import SourceSpec
from storage.encoding import to_unit
from storage.errors import ConfigError
from training.config import TrainerConfig, TrainingConfig
from training.model.learning.distillation import Distillation
from training.model.learning.distillation_config import TeacherConfig
from training.model.learning.losses import bce
from training.model.metrics import Truth
from training.model.models import ModelConfig, build_classifier
from training.module import SliceModule

SHAPE = (16, 24)
NAN = math.nan
FIRST = {"embeddings": "x.parquet", "phase": "first"}


def identity(loss):
    """A projection that changes nothing, of two numbers."""
    distillation = Distillation(TeacherConfig(loss=loss), embedding_size=2, width=2)
    with torch.no_grad():
        distillation.projections[0].weight.copy_(torch.eye(2))
        distillation.projections[0].bias.zero_()
    return distillation


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # 1 - cos of 0, 90, 180 degrees, and of (3, 4) with (4, 3): 1 - 24 / 25
        ("cosine", [0.0, 1.0, 2.0, 0.04]),
        # (d0 ** 2 + d1 ** 2) / 2
        ("mse", [0.5, 1.0, 4.5, 1.0]),
    ],
)
def test_the_distance_is_what_a_hand_computes(loss, expected):
    embedding = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [3.0, 4.0]])
    teacher = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-2.0, 0.0], [4.0, 3.0]])
    found = identity(loss).losses(0, embedding, teacher)
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("loss", ["cosine", "mse"])
def test_rows_of_nan_cost_nothing_and_pull_at_nothing(loss):
    distillation = identity(loss)
    embedding = torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.0, 5.0]], requires_grad=True)
    teacher = torch.tensor([[1.0, 0.0], [NAN, NAN], [1.0, NAN]])
    found = distillation.losses(0, embedding, teacher)
    assert found[0] > 0
    assert found[1:].tolist() == [0, 0]
    found.sum().backward()
    assert embedding.grad[0].abs().sum() > 0
    assert embedding.grad[1:].abs().sum() == 0
    alone = identity(loss)
    alone.losses(0, embedding[:1], teacher[:1]).sum().backward()
    torch.testing.assert_close(
        distillation.projections[0].weight.grad, alone.projections[0].weight.grad
    )


def test_without_any_embedding_all_gradients_are_zero():
    distillation = identity("cosine")
    embedding = torch.rand(3, 2, requires_grad=True)
    distillation.losses(0, embedding, torch.full((3, 2), NAN)).sum().backward()
    for tensor in (embedding, *distillation.parameters()):
        assert tensor.grad.abs().sum() == 0


def test_a_projection_is_linear_or_has_one_hidden_layer():
    config = TeacherConfig(projection="mlp", hidden=7)
    mlp = Distillation(config, embedding_size=5, width=3, num_views=2)
    assert [tuple(p.shape) for p in mlp.projections[1].parameters()] == [
        (7, 5),
        (7,),
        (3, 7),
        (3,),
    ]
    assert len(mlp.projections) == 2
    linear = Distillation(TeacherConfig(), embedding_size=5, width=3)
    assert [tuple(p.shape) for p in linear.parameters()] == [(3, 5), (3,)]


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({"weight": 0.3}, [(1, 0.3)] * 4),
        ({**FIRST, "epochs": 2, "weight": 2.0}, [(0, 2), (0, 2), (1, 2), (1, 2)]),
        ({**FIRST, "epochs": 1, "then": "labels"}, [(0, 1), (1, 0), (1, 0), (1, 0)]),
    ],
    ids=["together", "first, then together", "first, then labels"],
)
def test_phases_change_at_their_epoch(options, shares):
    config = TeacherConfig(**options)
    assert [config.shares(epoch) for epoch in range(4)] == shares


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "l1"}, r"teacher\.loss=l1 is none of cosine, mse"),
        ({"weight": 0.0}, r"teacher\.weight=0 must be positive"),
        ({"missing": "drop"}, r"teacher\.missing=drop is none of refuse, skip"),
        ({**FIRST}, r"teacher\.phase=first needs teacher\.epochs of 1 or more"),
        ({"epochs": 3}, r"teacher\.phase=together with teacher\.epochs=3"),
        ({"phase": "first", "epochs": 3}, r"give teacher\.embeddings="),
        ({"then": "labels"}, r"teacher\.then=labels is for what follows teacher\.phase=first"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        TeacherConfig(**options)


def test_a_training_has_epochs_for_labels_and_the_sources_that_are_named():
    with pytest.raises(ConfigError, match=r"teacher\.epochs=3 of trainer\.epochs=3 leaves no"):
        TrainingConfig(teacher=TeacherConfig(**FIRST, epochs=3), trainer=TrainerConfig(epochs=3))
    teacher = TeacherConfig(sources={"pool": "x.parquet"})
    with pytest.raises(ConfigError, match=r"teacher\.sources\.pool: there is no such source"):
        TrainingConfig(teacher=teacher, sources={"focal": SourceSpec(store="x")})


def module_of(teacher, augment=None, views=((1, 1),)):
    """A module with a teacher of 3 numbers, whose model draws nothing."""
    recordings = pl.DataFrame(
        {"primary_label": ["a", "b"], "secondary_labels": [[], []]},
        schema_overrides={"secondary_labels": pl.List(pl.String)},
    )
    labels = Labels(("a", "b"))
    config = TrainingConfig(augment=augment or AugmentConfig(), teacher=teacher)
    model_config = ModelConfig(
        backbone="test_resnet", dropout=0.0, views=[list(view) for view in views]
    )
    torch.manual_seed(0)
    model = build_classifier(model_config, num_classes=2, slice_shape=SHAPE)
    size = model.embedding_size // len(model.views)
    distillation = Distillation(teacher, embedding_size=size, width=3, num_views=len(model.views))
    truth = Truth.of(recordings, labels, 0.0)
    return SliceModule(model, config, truth, distillation=distillation).eval()


def batch_of(num=4):
    generator = torch.Generator().manual_seed(5)
    slices = torch.randint(0, 256, (num, *SHAPE), generator=generator, dtype=torch.uint8)
    return Batch(
        slices=slices,
        targets=torch.eye(2)[torch.arange(num) % 2],
        rows=torch.arange(num) + 100,
        recording_no=torch.arange(num) % 2,
        position=torch.arange(num),
        epoch=torch.tensor(2),
        teacher=torch.randn(num, 3, generator=generator),
    )


@pytest.mark.parametrize("views", [((1, 1),), ((1, 1), (2, 1))], ids=["one", "two"])
def test_the_distance_is_added_to_the_loss_of_the_labels_view_by_view(views):
    module, batch = module_of(TeacherConfig(weight=0.7), views=views), batch_of()
    slices, expected = to_unit(batch.slices), []
    for number, view in enumerate(module.model.views):
        logits, embedding = view(slices)[:2]
        projected = module.distillation.projections[number](embedding)
        cosine = torch.cosine_similarity(projected, batch.teacher)
        expected.append(bce(logits, batch.targets) + 0.7 * (1 - cosine))
    torch.testing.assert_close(module.training_losses(batch), torch.stack(expected).mean(0))


def test_a_teacher_alone_pulls_at_the_backbone_and_not_at_the_head():
    module = module_of(TeacherConfig(**FIRST, epochs=1))
    assert not module.learns_labels
    module.training_losses(batch_of()).sum().backward()
    (view,) = module.model.views
    assert view.head.weight.grad.abs().sum() == 0  # there for all ranks, but zero
    assert any(p.grad.abs().sum() > 0 for p in view.backbone.parameters())


def test_a_mixed_sample_keeps_its_own_embedding():
    mixup = AugmentConfig(mixup=MixupConfig(p=1.0))
    module, batch = module_of(TeacherConfig(**FIRST, epochs=1), mixup), batch_of()
    seen = []
    module.model.views[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    losses = module.training_losses(batch)
    (mixed,) = seen
    assert not torch.equal(mixed, to_unit(batch.slices))
    embedding = module.model.views[0](mixed).embedding
    torch.testing.assert_close(losses, module.distillation.losses(0, embedding, batch.teacher))


@pytest.mark.parametrize("injected", ["skip", "keep"])
def test_samples_with_an_injected_partner_are_left_out_or_kept(injected):
    module = module_of(TeacherConfig(**FIRST, epochs=1, injected=injected))
    batch = batch_of()
    whole = module.training_losses(batch)
    pools = batch._replace(partner_pool=torch.tensor([-1, 0, -1, 2], dtype=torch.int8))
    found = module.distillation.targets(pools)
    if injected == "keep":
        assert torch.equal(found, batch.teacher)
    else:
        assert found.isnan().all(1).tolist() == [False, True, False, True]
        losses = module.distillation.losses(
            0, module.model.views[0](to_unit(batch.slices)).embedding, found
        )
        torch.testing.assert_close(losses, whole * torch.tensor([1.0, 0, 1, 0]))


def test_a_batch_without_embeddings_is_refused():
    module = module_of(TeacherConfig())
    with pytest.raises(ValueError, match="needs its embeddings"):
        module.training_losses(batch_of()._replace(teacher=None))


def test_the_optimizer_learns_the_projection_too():
    module = module_of(replace(TeacherConfig(), projection="mlp", hidden=4))
    groups = module.optimizer_alone().param_groups
    learned = {id(parameter) for group in groups for parameter in group["params"]}
    assert {id(parameter) for parameter in module.parameters()} == learned
    for group in groups:
        if group["weight_decay"] == 0:
            assert all(parameter.ndim <= 1 for parameter in group["params"])
