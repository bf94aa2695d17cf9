"""A bar per fold: steps, epoch, loss, and the scores of the last validation."""

import math
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from tqdm import tqdm

from storage.progress import PlainLines

SMOOTHING = 0.9
FORMATS = {  # by the least columns of the terminal: figures come before times, times before the bar
    90: "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
    74: "{desc} {percentage:.0f}% {elapsed}<{remaining}{postfix}",
    0: "{desc} {percentage:.0f}%{postfix}",
}
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
        self._short = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Opens the bar over all batches of all epochs."""
        watched = sys.stderr.isatty()
        width = shutil.get_terminal_size().columns
        self._short = watched and width < max(FORMATS)
        done = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        self._bar = tqdm(
            total=int(trainer.num_training_batches) * (trainer.max_epochs or 1),
            unit=" batch",
            file=sys.stderr if watched else PlainLines(sys.stderr),
            dynamic_ncols=watched,
            mininterval=0.2 if watched else 10.0,
            bar_format=bar_format(width) if watched else IN_A_FILE,
            initial=done,  # before the training was resumed
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Names the epoch, counted from 1 to the last possible one."""
        epoch = f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
        word = "" if self._short else "epoch "
        self._bar.set_description_str(f"fold {self._fold} {word}{epoch}", refresh=False)

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
        figures = " ".join(f"{name} {value}" for name, value in shown.items())
        self._bar.set_postfix_str(figures, refresh=False)


class BatchCount(Callback):
    """Counts the batches that are done: those before a resume, then each further one."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell = tell

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Counts those before."""
        self._tell(trainer.fit_loop.epoch_loop.batch_progress.total.ready)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        """One more."""
        self._tell(1)


def count_bar(what: str, total: int, unit: str) -> "tqdm[Any]":
    """A bar without scores, drawn as that of a fold; none where `what` is empty."""
    watched = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=what,
        unit=unit,
        disable=not what,
        file=sys.stderr if watched else PlainLines(sys.stderr),
        dynamic_ncols=watched,
        mininterval=0.2 if watched else 10.0,
        bar_format=bar_format(shutil.get_terminal_size().columns) if watched else IN_A_FILE,
    )


def bar_format(width: int) -> str:
    """Format of a bar, for tqdm, whose figures fit into so many columns, from 60 on."""
    return next(form for least, form in FORMATS.items() if width >= least)
