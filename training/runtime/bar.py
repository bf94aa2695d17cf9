"""A bar per fold: steps, epoch, loss, and the scores of the last validation."""

import math
import sys
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from tqdm import tqdm

from storage.progress import PlainLines

SMOOTHING = 0.9
ON_A_TERMINAL = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
IN_A_FILE = "{desc} {percentage:.0f}% {elapsed}<{remaining}{postfix}"


class FoldBar(Callback):
    """Draws the progress of one fold on stderr; without a terminal, a line now and then.

    `shown`: names on the bar of logged values, by their key in the log.
    """

    def __init__(self, fold: int, shown: Mapping[str, str]) -> None:
        self._fold = fold
        self._shown = shown
        self._bar: tqdm[Any] = tqdm(disable=True)
        self._loss = math.nan

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Opens the bar over all batches of all epochs."""
        watched = sys.stderr.isatty()
        self._bar = tqdm(
            total=int(trainer.num_training_batches) * (trainer.max_epochs or 1),
            unit=" batch",
            file=sys.stderr if watched else PlainLines(sys.stderr),
            dynamic_ncols=watched,
            mininterval=0.2 if watched else 10.0,
            bar_format=ON_A_TERMINAL if watched else IN_A_FILE,
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Names the epoch, counted from 1 to the last possible one."""
        epoch = f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
        self._bar.set_description_str(f"fold {self._fold} epoch {epoch}", refresh=False)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """One step on; the loss is a running mean."""
        loss = float(outputs["loss"]) * trainer.accumulate_grad_batches
        before = loss if math.isnan(self._loss) else self._loss
        self._loss = SMOOTHING * before + (1 - SMOOTHING) * loss
        self._show(trainer)
        self._bar.update()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Shows the new scores at once."""
        self._show(trainer)
        self._bar.refresh()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Closes the bar after the last epoch."""
        self._bar.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Closes the bar before anybody reports what went wrong."""
        self._bar.close()

    def _show(self, trainer: pl.Trainer) -> None:
        shown = {"loss": f"{self._loss:.4f}"}
        for key, name in self._shown.items():
            if key in trainer.callback_metrics:
                shown[name] = f"{float(trainer.callback_metrics[key]):.3f}"
        self._bar.set_postfix(shown, refresh=False)
