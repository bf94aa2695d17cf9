"""The Lightning module: batches of slices in, loss and scores out.

    Batch (uint8) --device--> [0, 1] --augment--> model --> loss
    every epoch, on all slices of the held-out fold: val_loss, val_kl, and so on

Shapes: B samples, M mel bands, T frames, C classes.
"""

import math
from hashlib import blake2b
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from datasets.augment.draws import Samples
from datasets.augment.inject import prepare
from datasets.augment.pipeline import Augment
from datasets.batch import Batch
from storage.errors import MelbankError
from training.config import TrainingConfig
from training.model.groups import parse_groups
from training.model.learning.distillation import Distillation
from training.model.learning.losses import build_loss
from training.model.learning.objective import Objective
from training.model.learning.optimizers import build_optimizer, build_schedule
from training.model.metrics import Scores, Truth
from training.model.models import Classifier, probabilities
from training.model.pretrained import KEY
from training.model.views import Prediction
from training.runtime.ranks import gather_ranks, num_ranks, rank

LOADERS, PROGRESS = "combined_loader", "epoch_loop.batch_progress"  # as Lightning names them
VIEW_STRIDE = 1 << 40  # between the positions by which views draw: no epoch has so many samples


class NonFiniteLossError(MelbankError, ArithmeticError):
    """A loss is infinite or not a number; the message names the rows."""


class HeldOut(NamedTuple):
    """Predictions and targets that validation keeps of a batch, and finally of all."""

    probabilities_BC: Tensor
    losses_B: Tensor
    recording_no_B: Tensor


class SliceModule(pl.LightningModule):
    """Trains one classifier on one fold. `truth` is of all recordings of the source."""

    def __init__(
        self,
        model: Classifier,
        config: TrainingConfig,
        truth: Truth,
        *,
        top_db: float = 80.0,
        contents: dict[str, Any] | None = None,
        distillation: Distillation | None = None,
    ) -> None:
        """Loss, optimizer, augmentation and seed are as in `config`; `top_db` as in the recipe.

        `contents`: plain values that travel in every checkpoint, under the key `melbank`.
        `distillation`: of a training whose batches have embeddings of a teacher.
        """
        super().__init__()
        self.model = model
        self.config = config
        self._truth = truth
        self.contents = contents or {}
        self.distillation = distillation
        self._distances: list[Tensor] = []  # to the teacher, of the views of a batch, float32 [B]
        self._loss = build_loss(config.loss)
        self._top_db = top_db
        groups = parse_groups(self.contents.get("groups"), model.num_classes)
        self._objective = Objective(config.loss, groups)
        self._augment = Augment(config.augment, seed=config.seed, top_db=top_db)
        self._held_out: list[HeldOut] = []
        self.scores: Scores | None = None

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Dropout and the like depend on (seed, epoch, batch) alone, so training can resume.

        Batches are counted over all ranks: the same samples get the same on any number of them.
        """
        number = batch_idx * num_ranks() + rank()
        text = f"{self.config.seed}/{self.current_epoch}/{number}".encode()
        torch.manual_seed(int.from_bytes(blake2b(text, digest_size=7).digest()))
        self.model.freeze_backbones(self.current_epoch < self.config.model.freeze_epochs)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Keeps frozen backbones as they are."""
        self.model.drop_frozen_gradients()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean loss of the augmented batch; raises NonFiniteLossError."""
        losses = self.training_losses(batch)
        loss = losses.mean()
        self.log(
            "train_loss", loss, on_step=True, on_epoch=True, batch_size=len(losses), sync_dist=True
        )
        if self._distances:
            self.log(
                "train_teacher_loss",
                torch.stack(self._distances).mean(),
                on_step=False,
                on_epoch=True,
                batch_size=len(losses),
                sync_dist=True,
            )
        return loss

    def training_losses(self, batch: Batch) -> Tensor:
        """The loss of each sample of the augmented batch, float [B]; NonFiniteLossError.

        Each view sees the samples in an augmentation of its own, and the mean of its losses.
        """
        stored = self.prepare(batch)
        losses = []
        self._distances.clear()
        for number, view in enumerate(self.model.views):
            position = batch.position + number * VIEW_STRIDE
            slices, targets = self._augment(
                stored.mel_BMT,
                stored.targets_BC,
                batch.epoch,
                position,
                stored.background_BMT,
                stored.level_B,
            )
            found = view(slices)
            losses.append(self._with_teacher(self._objective(found, targets), found, batch))
        mean = torch.stack(losses).mean(0)
        check_finite(mean, batch)
        return mean

    def prepare(self, batch: Batch) -> Samples:
        """The samples of a batch before augmentation: chunks joined, partners of pools added."""
        return prepare(batch, self._top_db, self.config.sampling.inject)

    def _with_teacher(self, losses_B: Tensor, found: Prediction, batch: Batch) -> Tensor:
        """Adds the distance of a view's embeddings to the teacher's, by the factors of the epoch.

        A factor of 0 keeps its loss in the graph: all ranks have gradients of all weights.
        """
        if self.distillation is None:
            return losses_B
        shares, view = self.distillation.shares(self.current_epoch), len(self._distances)
        teacher_BD = self.distillation.targets(batch)
        distances_B = self.distillation.losses(view, found.embedding, teacher_BD)
        self._distances.append(distances_B.detach())
        return shares.labels * losses_B + shares.teacher * distances_B

    @property
    def learns_labels(self) -> bool:
        """False in epochs that learn a teacher alone, whose scores decide nothing."""
        return self.distillation is None or self.distillation.shares(self.current_epoch).labels > 0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keeps the probabilities of the batch for the scores of the epoch."""
        slices, targets = prepare(batch, self._top_db)[:2]
        if len(targets):
            logits = self.model(slices).logits
            predicted = probabilities(logits, self.config.model.output)
            losses = self._loss(logits, targets)
            check_finite(losses, batch)
        else:  # this rank has nothing; the others wait for it
            predicted, losses = torch.zeros_like(targets), targets.new_zeros(0)
        self._held_out.append(HeldOut(predicted, losses, batch.recording_no))

    def on_validation_epoch_end(self) -> None:
        """Scores all slices of the held-out fold at once, on each rank those of all ranks."""
        columns = zip(*self._held_out, strict=True)
        whole = HeldOut(*(gather_ranks(torch.cat(column)) for column in columns))
        self._held_out.clear()
        self.scores = self._truth.score(
            whole.probabilities_BC.cpu().numpy(), whole.recording_no_B.cpu().numpy()
        )
        self.log("val_loss", whole.losses_B.mean(), sync_dist=True)
        for key, score in self.scores.items():
            if not math.isnan(score):
                self.log(f"val_{key}", score, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """An optimizer with a schedule per optimizer step."""
        optimizer = self.optimizer_alone()
        schedule = build_schedule(
            optimizer,
            self.config.optimizer,
            num_steps=int(self.trainer.estimated_stepping_batches),
            num_epochs=self.trainer.max_epochs or 1,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_alone(self) -> Optimizer:
        """The optimizer of all that is learned, without its schedule."""
        clips = self.config.trainer.gradient_clip > 0
        return build_optimizer(self.model, self.config.optimizer, self.distillation, clips=clips)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what is needed to predict from the checkpoint alone."""
        checkpoint[KEY] = self.contents

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Fits the batch counts to the ranks that there are now."""
        rescale_batch_progress(checkpoint, self.trainer.accumulate_grad_batches)


def rescale_batch_progress(checkpoint: dict[str, Any], accumulation: int) -> None:
    """Makes a checkpoint, in place, count the batches of a training that accumulates so many.

    The reader's own state counts samples over all ranks and fits any number of them. Lightning
    counts the batches of one rank; with as many samples per optimizer step on more ranks, those
    are fewer. Does nothing where the number is the same, or no `BatchReader` fed the training.
    """
    fit_loop = checkpoint.get("loops", {}).get("fit_loop", {})
    loaders = fit_loop.get("state_dict", {}).get(LOADERS, [])
    states = [state for state in loaders if "global_batch" in state]
    if not states:
        return
    before = states[0]["effective_batch"] // states[0]["global_batch"]
    for counts in (fit_loop[PROGRESS]["total"], fit_loop[PROGRESS]["current"]):
        unfinished = counts["processed"] - counts["completed"]  # 1 when saved at a batch's end
        for name in ("ready", "started", "processed"):
            counts[name] = -(-counts[name] * accumulation // before)
        counts["completed"] = counts["processed"] - unfinished


def check_finite(losses: Tensor, batch: Batch) -> None:
    """Raises NonFiniteLossError with the rows whose loss, float [B], is infinite or no number."""
    finite = torch.isfinite(losses)
    if bool(finite.all()):
        return
    rows = batch.rows[~finite].tolist()
    if len(rows) == len(losses):
        cause = (
            "of the whole batch: the weights are gone; lower optimizer.learning_rate, or try "
            "trainer.precision=32-true"
        )
    else:
        cause = "of a part of the batch: look at these slices with tools.query"
    raise NonFiniteLossError(
        f"the loss in epoch {int(batch.epoch)} is not finite for {len(rows)} of {len(losses)} "
        f"rows, {cause}. Rows: {', '.join(map(str, rows))}"
    )
