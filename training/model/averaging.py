"""Averaged weights: SWA (one snapshot per epoch) or EMA (every optimizer step).

    trainer = pl.Trainer(callbacks=[WeightAverage(config, total_epochs=20, batches=...)])

From its first snapshot on, the average is what validation sees, what early stopping judges and
what checkpoints hold; before that all three use the live weights, so that nothing is decided by
weights that were never trained. Training goes on with the live weights and with its own schedule.

* SWA: the plain mean of the weights at the ends of epochs (Izmailov et al., 2018). Batch norm's
  running statistics belong to no mean of weights, so they are taken again from training batches.
* EMA: mean += (1 - d) * (live - mean), d = min(decay, (1 + n) / (10 + n)) after n updates, running
  statistics alike.

A checkpoint made while the average replaces the live weights keeps both: training resumes
with the live ones.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from training.model.config import EMA, SWA, AveragingConfig


class WeightAverage(Callback):
    """Averages `module.model` as `config` says; the module stays the one place that is read.

    `batches` gives training batches as the model takes them, float [B, M, T], for batch norm.
    """

    def __init__(
        self, config: AveragingConfig, *, total_epochs: int, batches: Callable[[], Iterable[Tensor]]
    ) -> None:
        self._config = config
        self._start_epoch = int(config.start * total_epochs)
        self._batches = batches
        self._mean: dict[str, Tensor] = {}
        self._live: dict[str, Tensor] | None = None  # while the mean replaces them
        self._step = -1  # the last that was averaged: a step of several batches comes once
        self.num_averaged = 0

    @torch.no_grad()
    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Training goes on with the live weights."""
        if self._live is not None:
            _assign(module.model, self._live)
            self._live = None

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """EMA: takes in the weights after each optimizer step."""
        if self._config.kind == EMA and trainer.global_step != self._step:
            self._step = trainer.global_step
            n = self.num_averaged
            self._take_in(module.model, 1 - min(self._config.decay, (1 + n) / (10 + n)))

    @torch.no_grad()
    def on_validation_start(self, trainer: pl.Trainer, module: Any) -> None:
        """SWA: takes in the weights of the epoch; then the mean replaces the live weights."""
        if trainer.sanity_checking or self._live is not None:
            return
        model = module.model
        if self._config.kind == SWA and trainer.current_epoch >= self._start_epoch:
            self._take_in(model, 1 / (self.num_averaged + 1))
        if self.num_averaged:
            self._live = {name: value.clone() for name, value in model.state_dict().items()}
            _assign(model, self._mean)
            if self._config.kind == SWA and self.num_averaged > 1:
                self._refresh_norms(model, module.device)

    def state_dict(self) -> dict[str, Any]:
        """The mean and, where it replaces them, the live weights."""
        return {
            "mean": self._mean,
            "live": self._live,
            "num_averaged": self.num_averaged,
            "step": self._step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from `state_dict`."""
        self._mean = state_dict["mean"]
        self._live = state_dict["live"]
        self.num_averaged = state_dict["num_averaged"]
        self._step = state_dict["step"]

    def _take_in(self, model: nn.Module, weight: float) -> None:
        """mean += weight * (live - mean); counters of batch norm, which are whole, as they are."""
        for name, value in model.state_dict().items():
            if name in self._mean and value.is_floating_point():
                self._mean[name] = self._mean[name].to(value.device).lerp_(value, weight)
            else:
                self._mean[name] = value.clone()
        self.num_averaged += 1

    def _refresh_norms(self, model: nn.Module, device: torch.device) -> None:
        if not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules()):
            return
        training = model.training
        update_bn(islice(self._batches(), self._config.norm_batches), model, device=device)
        model.train(training)


def _assign(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Copies values into a model's own tensors, which optimizer and compiled code hold."""
    for name, tensor in model.state_dict().items():
        tensor.copy_(values[name])
