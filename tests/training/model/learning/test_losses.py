"""training.model.learning.losses against torch and torchvision."""

import itertools
import math

import pytest
import torch
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from storage.errors import ConfigError
from training.model.learning.losses import (
    LOSSES,
    MASKABLE,
    SOFT_AUC,
    LossConfig,
    build_loss,
    to_distribution,
)

POINTWISE = [name for name in LOSSES if name != SOFT_AUC]  # a sample's loss is its own


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(4)
    logits = 3 * torch.randn(12, 7, generator=generator)
    hard = functional.one_hot(torch.randint(7, (12,), generator=generator), 7).float()
    soft = torch.rand(12, 7, generator=generator)
    return logits, hard, soft


def loss_of(name, **options):
    return build_loss(LossConfig(name=name, **options))


@pytest.mark.parametrize("name", POINTWISE)
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


def test_a_label_of_one_sample_may_be_unknown_and_of_another_not(batch):
    logits, _, soft = batch
    soft[3, 2] = soft[7, 2] = torch.nan
    for name in set(MASKABLE) - {SOFT_AUC}:
        losses = loss_of(name)(logits, soft)
        known = [0, 1, 3, 4, 5, 6]
        alone = loss_of(name)(logits[3:4, known], soft[3:4, known])
        torch.testing.assert_close(losses[3:4], alone)
        torch.testing.assert_close(losses[:3], loss_of(name)(logits[:3], soft[:3]))


def pairwise(logits, targets):
    """The definition of soft AUC, by a loop over classes and pairs."""
    losses = []
    for z, t in zip(logits.T.tolist(), targets.T.tolist(), strict=True):
        total = weight = 0.0
        for i, j in itertools.permutations(range(len(z)), 2):
            if not (math.isnan(t[i]) or math.isnan(t[j])):
                total += t[i] * (1 - t[j]) * math.log1p(math.exp(z[j] - z[i]))
                weight += t[i] * (1 - t[j])
        if weight:
            losses.append(total / weight)
    return sum(losses) / max(1, len(losses))


@pytest.mark.parametrize("kind", ["hard", "soft", "a class unknown in places", "no class at all"])
def test_the_mean_of_soft_auc_is_its_definition(kind, batch):
    logits, hard, soft = batch
    targets = hard if kind == "hard" else soft
    if kind == "a class unknown in places":
        targets[2:9, 4] = torch.nan
    if kind == "no class at all":
        targets = torch.zeros_like(soft)
    losses = loss_of(SOFT_AUC)(logits, targets)
    assert losses.shape == (12,)
    assert float(losses.mean()) == pytest.approx(pairwise(logits, targets), rel=1e-5)


def test_soft_auc_of_two_samples_by_hand():
    logits = torch.tensor([[2.0, 0.0], [-1.0, 5.0]])
    hard = torch.tensor([[1.0, 0.0], [0.0, 0.0]])  # nobody has the second class
    expected = math.log1p(math.exp(-3.0))
    assert loss_of(SOFT_AUC)(logits, hard).tolist() == pytest.approx([expected, expected])
    soft = torch.tensor([[0.8, 0.0], [0.3, 0.0]])
    first, second = 0.8 * 0.7, 0.3 * 0.2
    expected = (first * expected + second * math.log1p(math.exp(3.0))) / (first + second)
    assert float(loss_of(SOFT_AUC)(logits, soft).mean()) == pytest.approx(expected)


def test_soft_auc_names_only_the_sample_whose_logits_are_not_finite(batch):
    logits, hard, _ = batch
    logits[5, 1] = torch.nan
    losses = loss_of(SOFT_AUC)(logits, hard)
    assert losses.isfinite().nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]


def test_soft_auc_is_minimised_by_ranking_not_by_level(batch):
    logits, hard, _ = batch
    moved = loss_of(SOFT_AUC)(logits + torch.arange(7.0), hard)
    torch.testing.assert_close(moved, loss_of(SOFT_AUC)(logits, hard), rtol=1e-4, atol=1e-5)


def test_bce_is_added_to_soft_auc_by_its_weight(batch):
    logits, _, soft = batch
    both = loss_of(SOFT_AUC, bce_weight=0.25)(logits, soft)
    expected = loss_of(SOFT_AUC)(logits, soft) + 0.25 * loss_of("bce")(logits, soft)
    torch.testing.assert_close(both, expected)


def test_asymmetric_by_hand():
    logits, targets = torch.tensor([[0.0, 1.0, -4.0]]), torch.tensor([[1.0, 0.25, 0.0]])
    p = [1 / (1 + math.exp(-z)) for z in (0.0, 1.0, -4.0)]
    q = [max(0.0, one - 0.05) for one in p]
    assert q[2] == 0  # so unlikely that it costs nothing
    cells = [
        -((1 - p[0]) ** 1.5) * math.log(p[0]),
        -0.25 * (1 - p[1]) ** 1.5 * math.log(p[1]) - 0.75 * q[1] ** 4 * math.log(1 - q[1]),
        0.0,
    ]
    loss = loss_of("asymmetric", asymmetric_gamma_positive=1.5)
    assert float(loss(logits, targets)) == pytest.approx(sum(cells) / 3, rel=1e-5)


def test_asymmetric_without_focus_and_margin_is_bce(batch):
    logits, _, soft = batch
    plain = loss_of("asymmetric", asymmetric_gamma_negative=0.0, asymmetric_margin=0.0)
    torch.testing.assert_close(plain(logits, soft), loss_of("bce")(logits, soft))


def test_negative_penalty_by_hand():
    logits = torch.tensor([[3.0, 2.0, -1.0, 4.0]])
    targets = torch.tensor([[1.0, 0.0, 0.0, 0.5]])
    penalty = (0 + 2.0**2 + 0 + 0.5 * 4.0**2) / 4
    plain, both = loss_of("ce"), loss_of("ce", negative_penalty=0.03)
    torch.testing.assert_close(both(logits, targets), plain(logits, targets) + 0.03 * penalty)


def test_unnormalised_cross_entropy_counts_each_label(batch):
    logits = batch[0]
    targets = torch.zeros_like(logits)
    targets[:, 1] = targets[:, 4] = 1
    share = loss_of("ce")(logits, targets)
    torch.testing.assert_close(loss_of("ce", normalise_targets=False)(logits, targets), 2 * share)
    summed = -(logits.log_softmax(1)[:, [1, 4]]).sum(1)
    torch.testing.assert_close(2 * share, summed)


def test_positives_and_negatives_are_smoothed_apart(batch):
    logits, hard, _ = batch
    targets = torch.where(hard > 0, 0.92, 0.01)
    apart = loss_of("bce", positive_smoothing=0.08, negative_smoothing=0.01)
    torch.testing.assert_close(apart(logits, hard), loss_of("bce")(logits, targets))
    unknown = hard.clone()
    unknown[0, 0] = torch.nan
    assert apart(logits, unknown).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 0.1, "positive_smoothing": 0.1}, "give the first or the others"),
        ({"positive_smoothing": 0.6, "negative_smoothing": 0.5}, "their sum must be below 1"),
        ({"normalise_targets": False}, "normalise_targets=false is for loss.name=ce, not bce"),
        ({"bce_weight": 0.25, "name": "focal"}, "0.25 is for loss.name=soft_auc, not focal"),
        ({"clip_weight": 0.0}, "leave nothing to learn"),
        ({"negative_penalty": -1.0}, "loss.negative_penalty=-1 must be at least 0"),
        ({"asymmetric_margin": 1.0}, "loss.asymmetric_margin=1 must lie between 0 and below 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        LossConfig(**options)
