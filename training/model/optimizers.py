"""AdamW, and a learning rate that warms up and then follows a cosine, set again at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from storage.options import check_at_least, check_between, check_positive, option

if TYPE_CHECKING:  # the config needs none of it, and importing it takes seconds
    from torch import nn
    from torch.optim import AdamW
    from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """AdamW and its schedule."""

    learning_rate: float = option(1e-3, "peak, per optimizer step")
    weight_decay: float = option(1e-2, "of weights; biases and norms have none")
    warmup_epochs: float = option(1.0, "linear rise to the peak, epochs")
    final_fraction: float = option(0.01, "of the peak at the end of the cosine")

    def __post_init__(self) -> None:
        check_positive(self, "optimizer", "learning_rate")
        check_at_least(self, "optimizer", 0, "weight_decay", "warmup_epochs")
        check_between(self, "optimizer", 0, 1, "final_fraction")


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, projection: nn.Module | None = None
) -> AdamW:
    """AdamW over the parameters of a model; vectors (biases, norms) are not decayed.

    Those of the projection of a distillation are learned as new parts of the model are.
    """
    from torch.optim import AdamW

    modules = [model] if projection is None else [model, projection]
    every = chain.from_iterable(module.parameters() for module in modules)
    parameters = [parameter for parameter in every if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=config.learning_rate)


def build_schedule(
    optimizer: AdamW, config: OptimizerConfig, *, num_steps: int, num_epochs: int
) -> LambdaLR:
    """The learning rate of each of `num_steps` optimizer steps in `num_epochs` epochs."""
    from torch.optim.lr_scheduler import LambdaLR

    warmup_steps = round(config.warmup_epochs * num_steps / num_epochs)
    return LambdaLR(
        optimizer,
        lambda step: learning_rate_fraction(
            step,
            num_steps=num_steps,
            warmup_steps=min(warmup_steps, num_steps),
            final_fraction=config.final_fraction,
        ),
    )


def learning_rate_fraction(
    step: int, *, num_steps: int, warmup_steps: int, final_fraction: float
) -> float:
    """Learning rate of a step as a fraction of the peak; step 0 already moves.

    Rises over `warmup_steps` to 1, falls along half a cosine to `final_fraction` at the last step.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step + 1 - warmup_steps) / max(1, num_steps - warmup_steps))
    return final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * progress)) / 2
