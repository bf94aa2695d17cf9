"""Optimizers and their learning rates, which are set again at each step.

    optimizer = build_optimizer(model, config)
    schedule = build_schedule(optimizer, config, num_steps=2000, num_epochs=20)

Parameters are in groups of equal weight decay and equal learning rate: of a classifier's backbones
the rate may be a share of that of all else, and may fall from layer to layer towards the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage.options import check_at_least, check_between, check_choice, check_positive, option
from training.model.learning.schedules import COSINE, SCHEDULES, Steps, learning_rate_fraction

if TYPE_CHECKING:  # the config needs none of it, and importing it takes seconds
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR

__all__ = ["OptimizerConfig", "build_optimizer", "build_schedule", "learning_rate_fraction"]

ADAMW, RADAM = "adamw", "radam"
BACKBONE = "backbone"  # of a view; the parameters are views.0.backbone.conv1.weight and so on


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """Optimizer and its schedule."""

    name: str = option(ADAMW, "adamw, or radam: no warm-up needed")
    learning_rate: float = option(1e-3, "peak, per optimizer step")
    weight_decay: float = option(1e-2, "of weights; biases and norms have none")
    backbone_learning_rate: float = option(
        1.0, "of backbones, as a share of learning_rate; 0.1 for pretrained ones"
    )
    layer_decay: float = option(
        1.0, "factor of the learning rate from each layer of a backbone to the one before; 0.75"
    )
    schedule: str = option(COSINE, "cosine, one_cycle, warm_restarts or flat_cosine")
    warmup_epochs: float = option(1.0, "linear rise to the peak, epochs; not of one_cycle")
    final_fraction: float = option(0.01, "of the peak at the end of the cosine")
    restart_epochs: float = option(5.0, "warm_restarts: epochs from one restart to the next")
    flat_fraction: float = option(0.7, "flat_cosine: share of all steps before the cosine")
    rise_fraction: float = option(0.3, "one_cycle: share of all steps before the peak")

    def __post_init__(self) -> None:
        check_choice(self, "optimizer", "name", (ADAMW, RADAM))
        check_choice(self, "optimizer", "schedule", SCHEDULES)
        rates = ("learning_rate", "backbone_learning_rate", "restart_epochs", "layer_decay")
        check_positive(self, "optimizer", *rates)
        check_at_least(self, "optimizer", 0, "weight_decay", "warmup_epochs")
        shares = ("final_fraction", "flat_fraction", "rise_fraction")
        check_between(self, "optimizer", 0, 1, *shares, "layer_decay")


def build_optimizer(
    model: nn.Module,
    config: OptimizerConfig,
    projection: nn.Module | None = None,
    *,
    clips: bool = False,
) -> Optimizer:
    """An optimizer over the parameters of a model; vectors (biases, norms) are not decayed.

    Those of the projection of a distillation are learned as new parts of the model are. `clips`:
    the norm of the gradients is limited, which Lightning does not do for fused optimizers.
    """
    from torch.optim import AdamW, RAdam

    groups = parameter_groups(model, config)
    if projection is not None:
        for parameter in projection.parameters():
            groups[0 if parameter.ndim > 1 else 1]["params"].append(parameter)
    if config.name == RADAM:
        return RAdam(groups, lr=config.learning_rate, decoupled_weight_decay=True)
    on_cpu = all(one.device.type == "cpu" for group in groups for one in group["params"])
    one_pass = on_cpu and not clips  # over memory, instead of about ten
    return AdamW(groups, lr=config.learning_rate, fused=one_pass or None)


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Groups of parameters, those of the head and its like first, each with `lr` where it differs.

    With a decay d over the n layers of a backbone, layer i, from 0 at the input, learns with
    d ** (n - i) of the rate: the head counts as the layer after the last (Bao et al., BEiT, 2022).
    Layers are those of timm's `group_matcher`.
    """
    named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    if config.backbone_learning_rate == 1 and config.layer_decay == 1:
        scales = dict.fromkeys((name for name, _ in named), 1.0)
    else:
        scales = learning_rate_scales(model, config)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for scale in sorted(set(scales.values()), reverse=True):
        for decayed in (True, False):
            groups[scale, decayed] = []
    for name, parameter in named:
        groups[scales[name], parameter.ndim > 1].append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decayed else 0.0,
            **({} if scale == 1 else {"lr": config.learning_rate * scale}),
        }
        for (scale, decayed), parameters in groups.items()
    ]


def learning_rate_scales(model: nn.Module, config: OptimizerConfig) -> dict[str, float]:
    """Learning rate of each parameter, by name, as a share of the config's."""
    scales = {name: 1.0 for name, _ in model.named_parameters()}
    for prefix, backbone in model.named_modules():
        path = prefix.split(".")
        if path[-1] == BACKBONE and path.count(BACKBONE) == 1:  # none inside another
            layers = backbone_layers(backbone) if config.layer_decay < 1 else {}
            count = 1 + max(layers.values(), default=0)
            for name, _ in backbone.named_parameters():
                depth = count - layers.get(name, count)
                scale = config.backbone_learning_rate * config.layer_decay**depth
                scales[f"{prefix}.{name}"] = scale
    return scales


def backbone_layers(backbone: Any) -> dict[str, int]:
    """Number of the layer of each parameter of a timm model, from 0 at the input."""
    from timm.models import group_parameters

    matcher = backbone.group_matcher(coarse=False)
    layers: dict[str, int] = group_parameters(backbone, matcher, reverse=True)
    return layers


def build_schedule(
    optimizer: Optimizer, config: OptimizerConfig, *, num_steps: int, num_epochs: int
) -> LambdaLR:
    """The learning rate of each of `num_steps` optimizer steps in `num_epochs` epochs."""
    from torch.optim.lr_scheduler import LambdaLR

    warmup_steps = round(config.warmup_epochs * num_steps / num_epochs)
    steps = Steps(
        total=num_steps,
        warmup=min(warmup_steps, num_steps),
        final_fraction=config.final_fraction,
        period=max(1, round(config.restart_epochs * num_steps / num_epochs)),
        flat=config.flat_fraction,
        rise=config.rise_fraction,
    )
    return LambdaLR(optimizer, SCHEDULES[config.schedule](steps))
