"""training.model.losses against torch and torchvision."""

import pytest
import torch
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from storage.errors import ConfigError
from training.model.losses import LOSSES, MASKABLE, LossConfig, build_loss, to_distribution


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(4)
    logits = 3 * torch.randn(12, 7, generator=generator)
    hard = functional.one_hot(torch.randint(7, (12,), generator=generator), 7).float()
    soft = torch.rand(12, 7, generator=generator)
    return logits, hard, soft


def loss_of(name, **options):
    return build_loss(LossConfig(name=name, **options))


@pytest.mark.parametrize("name", LOSSES)
def test_each_sample_has_its_own_loss(name, batch):
    logits, _, soft = batch
    losses = loss_of(name)(logits, soft)
    assert losses.shape == (12,)
    torch.testing.assert_close(losses[3:4], loss_of(name)(logits[3:4], soft[3:4]))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_least_where_the_prediction_is_perfect(name, batch):
    hard = batch[1]
    perfect = loss_of(name)(40 * hard - 20, hard)
    assert perfect.max() < 1e-6
    assert loss_of(name)(20 - 40 * hard, hard).min() > 1


def test_label_smoothing_agrees_with_torch(batch):
    logits, hard, _ = batch
    expected = functional.cross_entropy(logits, hard, label_smoothing=0.2, reduction="none")
    torch.testing.assert_close(loss_of("ce", label_smoothing=0.2)(logits, hard), expected)
    torch.testing.assert_close(
        loss_of("bce", label_smoothing=0.2)(logits, hard),
        loss_of("bce")(logits, 0.8 * hard + 0.2 / hard.shape[1]),
    )


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_logits_give_32_bit_losses(name, batch):
    logits, _, soft = batch
    losses = loss_of(name)(logits.bfloat16(), soft)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, loss_of(name)(logits, soft), rtol=0.05, atol=0.05)


def test_bce_is_the_mean_over_classes(batch):
    logits, _, soft = batch
    reference = functional.binary_cross_entropy_with_logits(logits, soft)
    torch.testing.assert_close(loss_of("bce")(logits, soft).mean(), reference)


def test_cross_entropy_takes_targets_as_shares(batch):
    logits, _, soft = batch
    reference = functional.cross_entropy(logits, soft / soft.sum(1, keepdim=True))
    torch.testing.assert_close(loss_of("ce")(logits, soft).mean(), reference)
    torch.testing.assert_close(loss_of("ce")(logits, 0.3 * soft), loss_of("ce")(logits, soft))


def test_kl_agrees_with_torch_and_is_zero_at_the_target(batch):
    logits, _, soft = batch
    wanted = to_distribution(soft)
    reference = functional.kl_div(logits.log_softmax(1), wanted, reduction="none").sum(1)
    torch.testing.assert_close(loss_of("kl")(logits, soft), reference)
    assert loss_of("kl")(wanted.log(), soft).abs().max() < 1e-6


def test_focal_agrees_with_torchvision(batch):
    logits, hard, _ = batch
    reference = sigmoid_focal_loss(logits, hard, alpha=-1, gamma=1.5).mean(1)
    torch.testing.assert_close(loss_of("focal", focal_gamma=1.5)(logits, hard), reference)


@pytest.mark.parametrize("name", LOSSES)
def test_a_target_without_labels_gives_a_finite_loss_and_gradient(name, batch):
    logits = batch[0].clone().requires_grad_()
    losses = loss_of(name)(logits, torch.zeros_like(logits))
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", MASKABLE)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classes_that_are_not_known_take_no_part(name, smoothing, batch):
    """As if they were not there, in the loss and in the gradient."""
    logits, _, soft = batch
    loss = loss_of(name)
    masked = soft.clone()
    masked[:, 2] = torch.nan
    others = [0, 1, 3, 4, 5, 6]
    torch.testing.assert_close(loss(logits, masked), loss(logits[:, others], soft[:, others]))
    loss = loss_of(name, label_smoothing=smoothing)
    moved = logits.clone().requires_grad_()
    loss(moved, masked).sum().backward()
    assert moved.grad[:, 2].abs().max() == 0
    assert moved.grad[:, others].abs().min() > 0
    elsewhere = logits.clone()
    elsewhere[:, 2] += 5
    assert torch.equal(loss(elsewhere, masked), loss(logits, masked))


@pytest.mark.parametrize("name", sorted(set(LOSSES) - set(MASKABLE)))
def test_losses_of_one_probability_for_all_classes_cannot_mask(name):
    with pytest.raises(ConfigError, match=f"loss.name={name} all classes share one probability"):
        LossConfig(name=name, secondary="mask")
