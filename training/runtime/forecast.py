"""Forecast of a training's time from its first steps.

An epoch is its batches, each as long as those measured, and a pass over the slices of validation.
One of them takes a third of a slice that is learned from: the backward pass takes twice the forward
one. A fold is its epochs and a pass over all held-out slices.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from tqdm import tqdm

from training.runtime.ranks import first_rank_logger

logger = first_rank_logger(__name__)

WARM_UP, MEASURED = 3, 12  # batches: memory is taken in the first ones
FORWARD_SHARE = 1 / 3
WORTH_SAYING_S = 60.0
HEAVY_S = 3 * 3600.0  # on a CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Work of a training, as far as time depends on it; slices are those of one rank."""

    batches: int  # of an epoch
    batch_size: int
    val_slices: int  # of the validation of an epoch; where not each has one, in the mean
    held_out_slices: int  # of the final prediction
    epochs_left: int  # of the fold under way
    epochs: int  # of each further fold
    folds_left: int  # with the one under way


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Expected seconds of an epoch with its validation, and of all that is left."""

    epoch_s: float
    total_s: float


def forecast(batch_s: float, work: Work) -> Forecast:
    """Computes a forecast from the seconds of a batch."""
    predict_s = batch_s / work.batch_size * FORWARD_SHARE
    epoch_s = work.batches * batch_s + work.val_slices * predict_s
    num_epochs = work.epochs_left + work.epochs * (work.folds_left - 1)
    total_s = num_epochs * epoch_s + work.folds_left * work.held_out_slices * predict_s
    return Forecast(epoch_s=epoch_s, total_s=total_s)


def forecast_text(found: Forecast, work: Work, lighter: str) -> str:
    """A sentence on it; with `lighter`, the name of a config, where it takes hours."""
    folds = f", {work.folds_left} folds in a row" if work.folds_left > 1 else ""
    text = (
        f"about {time_text(found.epoch_s)} an epoch, at most {time_text(found.total_s)} in all "
        f"({work.epochs} epochs{folds})"
    )
    if lighter and found.total_s > HEAVY_S:
        text += f"; this config is heavy for a CPU: {lighter} is a light one"
    return text


def time_text(seconds: float) -> str:
    """Formats a duration in the unit that gives it two digits: 45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36 * 3600 else f"{seconds / 86400:.1f} days"


class TimeForecast(Callback):
    """Says once, after the first steps of a fold, how long it and the folds after it will take.

    `slices`: of an epoch's validation and of the final prediction, on all ranks. `lighter`: a
    config to name where the training takes hours; empty: none.
    """

    def __init__(
        self,
        fold: int,
        *,
        folds_left: int,
        batch_size: int,
        slices: tuple[int, int],
        lighter: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fold = fold
        self._folds_left = folds_left
        self._batch_size = batch_size
        self._slices = slices
        self._lighter = lighter
        self._clock = clock
        self._start: tuple[int, float] | None = None  # batch and time from which is measured
        self._said = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins to measure again, so that no validation is in between."""
        self._start = None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Measures, and speaks when there is enough."""
        if self._said:
            return
        batches = int(trainer.num_training_batches)
        if self._start is None:
            if batch_idx + 1 >= min(WARM_UP, batches - 1):
                self._start = batch_idx, self._clock()
            return
        begun, then = self._start
        if batch_idx - begun < MEASURED and batch_idx + 1 < batches:
            return
        self._said = True
        self._say(trainer, (self._clock() - then) / (batch_idx - begun))

    def _say(self, trainer: pl.Trainer, batch_s: float) -> None:
        epochs, ranks = trainer.max_epochs or 1, trainer.world_size
        val_slices, held_out_slices = (-(-count // ranks) for count in self._slices)
        work = Work(
            batches=int(trainer.num_training_batches),
            batch_size=self._batch_size,
            val_slices=val_slices,
            held_out_slices=held_out_slices,
            epochs_left=epochs - trainer.current_epoch,
            epochs=epochs,
            folds_left=self._folds_left,
        )
        found = forecast(batch_s, work)
        if found.total_s < WORTH_SAYING_S:
            return
        with tqdm.external_write_mode():  # the bar's line comes again below
            logger.info(f"fold {self._fold}: {forecast_text(found, work, self._lighter)}")
