"""Averaged weights: SWA (one snapshot per epoch), EMA (every optimizer step) or the best epochs.

    trainer = pl.Trainer(callbacks=[WeightAverage(config, total_epochs=20, batches=...)])

From its first snapshot on, the average is what validation sees, what early stopping judges and
what is kept; before that all three use the live weights, so that nothing is decided by weights that
were never trained. Training goes on with the live weights and with its own schedule, and epochs
without a validation (`trainer.validate_every`) are averaged, too.

* SWA: the plain mean of the weights at the ends of epochs (Izmailov et al., 2018). Batch norm's
  running statistics belong to no mean of weights, so they are taken again from training batches.
* EMA: mean += (1 - d) * (live - mean), d = min(decay, (1 + n) / (10 + n)) after n updates, running
  statistics alike.

A checkpoint made while the average replaces the live weights keeps both: training resumes
with the live ones.

`BestEpochs` is the third way: validation sees the live weights throughout, and when training has
ended, the mean of the k epochs of the best score replaces the weights of the best one.
"""

import math
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from training.model.checkpoints import put_weights
from training.model.config import EMA, SWA, AveragingConfig
from training.runtime.ranks import first_rank_logger, is_first_rank

logger = first_rank_logger(__name__)


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
        self._take_in_epoch(trainer, model)
        if self.num_averaged:
            self._live = {name: value.clone() for name, value in model.state_dict().items()}
            _assign(model, self._mean)
            if self._config.kind == SWA and self.num_averaged > 1:
                batches = islice(self._batches(), self._config.norm_batches)
                refresh_norms(model, batches, module.device)

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """SWA: takes in the weights of an epoch without a validation."""
        if self._live is None:
            self._take_in_epoch(trainer, module.model)

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

    def _take_in_epoch(self, trainer: pl.Trainer, model: nn.Module) -> None:
        if self._config.kind == SWA and trainer.current_epoch >= self._start_epoch:
            self._take_in(model, 1 / (self.num_averaged + 1))

    def _take_in(self, model: nn.Module, weight: float) -> None:
        """mean += weight * (live - mean); counters of batch norm, which are whole, as they are."""
        for name, value in model.state_dict().items():
            if name in self._mean and value.is_floating_point():
                self._mean[name] = self._mean[name].to(value.device).lerp_(value, weight)
            else:
                self._mean[name] = value.clone()
        self.num_averaged += 1


class BestEpochs(Callback):
    """Keeps the weights of the `best_k` epochs of the least score, on the CPU and in checkpoints.

    `batches` as in `WeightAverage`. Source: the mean of the k best checkpoints, as in Vaswani et
    al., NeurIPS 2017, section 6.1, of the last ones.
    """

    def __init__(
        self, config: AveragingConfig, *, monitor: str, batches: Callable[[], Iterable[Tensor]]
    ) -> None:
        self._config = config
        self._monitor = monitor
        self._batches = batches
        self.scores: dict[int, float] = {}  # of the epochs that are kept
        self.weights: dict[int, dict[str, Tensor]] = {}

    @torch.no_grad()
    def on_validation_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Keeps the weights of an epoch while its score is among the best; of equal ones the first.

        A score that is not defined is none of them, nor that of an epoch which learns a teacher
        alone.
        """
        score = trainer.callback_metrics.get(self._monitor)
        if not getattr(module, "learns_labels", True):
            return
        if trainer.sanity_checking or score is None or not math.isfinite(float(score)):
            return
        epoch = trainer.current_epoch
        self.scores[epoch] = float(score)
        best = sorted(self.scores, key=lambda one: (self.scores[one], one))[: self._config.best_k]
        self.scores = {one: self.scores[one] for one in sorted(best)}
        if epoch in self.scores:
            state = module.model.state_dict()
            self.weights[epoch] = {name: value.cpu().clone() for name, value in state.items()}
        self.weights = {one: self.weights[one] for one in self.scores}

    def state_dict(self) -> dict[str, Any]:
        """The epochs kept so far."""
        return {"scores": dict(self.scores), "weights": dict(self.weights)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from `state_dict`."""
        self.scores = dict(state_dict["scores"])
        self.weights = dict(state_dict["weights"])

    def mean(self) -> dict[str, Tensor]:
        """Mean of the weights that are kept; whole numbers, such as counters, of the best epoch."""
        best = min(self.scores, key=lambda one: (self.scores[one], one))
        mean = dict(self.weights[best])
        for name, value in mean.items():
            if value.is_floating_point():
                values = [one[name].double() for one in self.weights.values()]
                mean[name] = torch.stack(values).mean(0).to(value.dtype)
        return mean

    @torch.no_grad()
    def finish(self, module: Any, checkpoint: Path, device: torch.device) -> None:
        """Replaces the weights in a checkpoint by the mean; to be called on all ranks.

        Batch norm takes its statistics again from training batches. With fewer than two epochs
        the file stays as it is. The same again gives the same, so a stop in between does no harm.
        """
        if len(self.weights) < 2:
            return
        model = module.model
        _assign(model, self.mean())
        refresh_norms(model.to(device), islice(self._batches(), self._config.norm_batches), device)
        state = model.cpu().state_dict()
        logger.info(f"mean of the epochs {', '.join(str(one + 1) for one in self.weights)}")
        if is_first_rank():
            put_weights(checkpoint, state)


def refresh_norms(model: nn.Module, batches: Iterable[Tensor], device: torch.device) -> None:
    """Takes the running statistics of batch norm again from batches; does nothing without any.

    Those of a frozen backbone, whose weights are all the same, stay.
    """
    parts = list(model.modules())
    has_norms = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in parts)
    if not has_norms or any(getattr(part, "frozen", False) for part in parts):
        return
    training = model.training
    update_bn(batches, model, device=device)
    model.train(training)


def _assign(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Copies values into a model's own tensors, which optimizer and compiled code hold."""
    for name, tensor in model.state_dict().items():
        tensor.copy_(values[name])
