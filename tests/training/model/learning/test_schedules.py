"""training.model.learning.schedules and optimizers: rates of steps and of groups of parameters."""

import math

import pytest
import torch
from torch import nn

from storage.errors import ConfigError
from training.model.learning.optimizers import (
    OptimizerConfig,
    backbone_layers,
    build_optimizer,
    build_schedule,
    parameter_groups,
)
from training.model.models import ModelConfig, build_classifier

LAST = 0.1


def rates_of(num_steps=40, num_epochs=10, **options):
    """The rate of each step as a share of the peak."""
    basic = {"learning_rate": 0.5, "final_fraction": LAST, "warmup_epochs": 0.0}
    config = OptimizerConfig(**{**basic, **options})
    optimizer = build_optimizer(nn.Linear(2, 2), config)
    schedule = build_schedule(optimizer, config, num_steps=num_steps, num_epochs=num_epochs)
    rates = []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"] / config.learning_rate)
        optimizer.step()
        schedule.step()
    return rates


def half_cosine(share):
    """From 1 to LAST."""
    return LAST + (1 - LAST) * (1 + math.cos(math.pi * share)) / 2


def test_one_cycle_rises_and_falls_along_half_cosines():
    rates = rates_of(schedule="one_cycle", rise_fraction=0.25)
    rise = [1 - 0.96 * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(1, 11)]
    assert rates[:10] == pytest.approx(rise)
    assert rates[9] == pytest.approx(1)
    assert rates[10:] == pytest.approx([half_cosine(step / 30) for step in range(1, 31)])


def test_warm_restarts_begin_again_and_cut_the_last_period():
    rates = rates_of(schedule="warm_restarts", restart_epochs=4.0)
    period = [half_cosine(step / 16) for step in range(1, 17)]
    assert rates == pytest.approx([*period, *period, *period[:8]])


def test_the_first_period_of_warm_restarts_begins_with_the_warm_up():
    rates = rates_of(schedule="warm_restarts", restart_epochs=4.0, warmup_epochs=1.0)
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4:16] == pytest.approx([half_cosine(step / 12) for step in range(1, 13)])
    assert rates[16] == pytest.approx(half_cosine(1 / 16))


def test_flat_cosine_stays_at_the_peak_and_then_falls():
    rates = rates_of(schedule="flat_cosine", flat_fraction=0.75, warmup_epochs=1.0)
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4:30] == [1.0] * 26
    assert rates[30:] == pytest.approx([half_cosine(step / 10) for step in range(1, 11)])


@pytest.mark.parametrize("schedule", ["one_cycle", "warm_restarts", "flat_cosine"])
def test_a_schedule_resumes_at_its_step(schedule):
    whole = rates_of(schedule=schedule, warmup_epochs=1.0)
    config = OptimizerConfig(learning_rate=0.5, final_fraction=LAST, schedule=schedule)
    optimizer = build_optimizer(nn.Linear(2, 2), config)
    first = build_schedule(optimizer, config, num_steps=40, num_epochs=10)
    for _ in range(17):
        optimizer.step()
        first.step()
    again = build_optimizer(nn.Linear(2, 2), config)
    again.load_state_dict(optimizer.state_dict())
    rest = build_schedule(again, config, num_steps=40, num_epochs=10)
    rest.load_state_dict(first.state_dict())
    assert rest.get_last_lr()[0] == pytest.approx(0.5 * whole[17])
    again.step()
    rest.step()
    assert again.param_groups[0]["lr"] == pytest.approx(0.5 * whole[18])


@pytest.mark.parametrize("num_steps", [1, 2, 3])
@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "warm_restarts", "flat_cosine"])
def test_very_short_trainings_have_finite_rates(schedule, num_steps):
    for warmup_epochs in (0.0, 1.0, 5.0):
        rates = rates_of(num_steps, 1, schedule=schedule, warmup_epochs=warmup_epochs)
        assert all(0 < rate <= 1 for rate in rates)


def test_radam_decays_weights_apart_from_the_gradient():
    weight = nn.Parameter(torch.ones(2, 2))
    layer = nn.Module()
    layer.weight = weight
    config = OptimizerConfig(name="radam", learning_rate=0.1, weight_decay=0.5)
    optimizer = build_optimizer(layer, config)
    assert type(optimizer) is torch.optim.RAdam
    weight.grad = torch.zeros(2, 2)
    optimizer.step()
    torch.testing.assert_close(weight.data, torch.full((2, 2), 1 - 0.1 * 0.5))
    assert {"exp_avg", "exp_avg_sq"} <= set(optimizer.state[weight])


def steps_of(optimizer, parameters, numbers):
    """Gradients by a generator, and a step for each number."""
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        for one in parameters:
            one.grad = torch.randn(one.shape, generator=generator)
        optimizer.step()


def test_adamw_in_one_pass_over_memory_is_adamw_and_goes_on_from_states_without_it():
    config = OptimizerConfig(learning_rate=0.05, weight_decay=0.1)
    torch.manual_seed(0)
    layers = [nn.Linear(7, 5) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    fast = build_optimizer(layers[0], config)
    plain = torch.optim.AdamW(parameter_groups(layers[1], config), lr=0.05)
    assert all(group["fused"] for group in fast.param_groups)
    assert not build_optimizer(layers[0], config, clips=True).param_groups[0]["fused"]
    for optimizer, layer in zip((fast, plain), layers, strict=True):
        steps_of(optimizer, list(layer.parameters()), range(30))
    torch.testing.assert_close(layers[0].state_dict(), layers[1].state_dict())
    again = build_optimizer(layers[1], config)
    again.load_state_dict(plain.state_dict())
    for optimizer, layer in zip((fast, again), layers, strict=True):
        steps_of(optimizer, list(layer.parameters()), range(30, 60))
    torch.testing.assert_close(layers[0].state_dict(), layers[1].state_dict())


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = ModelConfig(backbone="test_resnet", views=[[1, 1], [2, 2]])
    return build_classifier(config, num_classes=3, slice_shape=(32, 48))


def rates_by_name(model, config):
    names = {parameter: name for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(model, config)
    found = {
        names[parameter]: group["lr"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(found) == len(names)
    return found


def test_layers_of_the_backbone_learn_less_towards_the_input(model):
    config = OptimizerConfig(learning_rate=0.1, backbone_learning_rate=0.5, layer_decay=0.8)
    rates = rates_by_name(model, config)
    layers = backbone_layers(model.views[0].backbone)
    assert set(layers.values()) == {0, 1, 2, 3, 4}  # the stem, and four blocks
    for view in ("views.0", "views.1"):
        assert rates[f"{view}.head.weight"] == rates[f"{view}.head.bias"] == 0.1
        for name, layer in layers.items():
            expected = 0.1 * 0.5 * 0.8 ** (5 - layer)
            assert rates[f"{view}.backbone.{name}"] == pytest.approx(expected)


def test_the_backbone_alone_learns_at_a_rate_of_its_own(model):
    rates = rates_by_name(model, OptimizerConfig(learning_rate=0.1, backbone_learning_rate=0.25))
    assert {rate for name, rate in rates.items() if ".backbone." in name} == {0.025}
    assert {rate for name, rate in rates.items() if ".backbone." not in name} == {0.1}


def test_scaled_groups_follow_the_schedule_in_their_proportion(model):
    config = OptimizerConfig(learning_rate=0.1, layer_decay=0.5)
    optimizer = build_optimizer(model, config)
    before = [group["lr"] for group in optimizer.param_groups]
    build_schedule(optimizer, config, num_steps=40, num_epochs=10)
    after = [group["lr"] for group in optimizer.param_groups]
    assert after == pytest.approx([0.25 * rate for rate in before])
    decays = {(group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert len(decays) == len(optimizer.param_groups)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "sgd"}, "optimizer.name=sgd is none of adamw, radam"),
        ({"schedule": "step"}, "optimizer.schedule=step is none of cosine, one_cycle"),
        ({"layer_decay": 1.5}, "optimizer.layer_decay=1.5 must lie between 0 and 1"),
        ({"layer_decay": 0.0}, "optimizer.layer_decay=0 must be positive"),
        ({"restart_epochs": 0.0}, "optimizer.restart_epochs=0 must be positive"),
        ({"backbone_learning_rate": -1.0}, "backbone_learning_rate=-1 must be positive"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        OptimizerConfig(**options)
