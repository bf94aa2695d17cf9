"""Distillation: the embedding of a model, projected, is drawn to that of a teacher.

    distillation = Distillation(config, embedding_size=512, width=1024)
    distillation.losses(0, embedding, teacher)  # float32 [B]

The projection belongs to the training alone: it is in checkpoints, so that training can go on, and
no part of the classifier that predicts. Sources: FitNets (Romero et al., ICLR 2015) for the
regression of a hidden layer through a projection; cosine distance to Perch's embeddings, first
alone and then with the labels, as in the write-ups of BirdCLEF 2026, places 1 and 5.

Shapes: B samples, E numbers of the student's embedding, D of the teacher's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from datasets.batch import Batch
from datasets.sources.teacher import SKIP
from training.model.learning.distillation_config import COSINE, LINEAR, TeacherConfig


class Shares(NamedTuple):
    """Factors of the two losses in an epoch."""

    labels: float
    teacher: float


class Distillation(nn.Module):
    """Projections of the embeddings of one or several views, and the distance to the teacher's."""

    def __init__(
        self, config: TeacherConfig, *, embedding_size: int, width: int, num_views: int = 1
    ) -> None:
        super().__init__()
        self.config = config
        made = [_projection(config, embedding_size, width) for _ in range(num_views)]
        self.projections = cast("Sequence[nn.Module]", nn.ModuleList(made))

    def losses(self, view: int, embedding_BE: Tensor, teacher_BD: Tensor) -> Tensor:
        """Distance of each sample, float32 [B]; 0, without a gradient, where the teacher has NaN.

        Cosine: 1 - cos(projected, teacher). MSE: mean over D of the squared difference.
        """
        known_B = ~teacher_BD.isnan().any(1)
        wanted_BD = teacher_BD.float().nan_to_num(0.0)
        projected_BD = self.projections[view](embedding_BE).float()
        if self.config.loss == COSINE:
            distance_B = 1 - functional.cosine_similarity(projected_BD, wanted_BD, dim=1)
        else:
            distance_B = (projected_BD - wanted_BD).square().mean(1)
        return torch.where(known_B, distance_B, 0.0)

    def targets(self, batch: Batch) -> Tensor:
        """The teacher's embeddings of a batch, float32 [B, D]; NaN for samples that are left out.

        A sample that augmentation mixes with others of its batch keeps its own: it has the larger
        share. Raises ValueError on a batch without any.
        """
        if batch.teacher is None:
            raise ValueError("the reader of a training with a teacher needs its embeddings")
        if batch.partner_pool is None or self.config.injected != SKIP:
            return batch.teacher
        return batch.teacher.masked_fill((batch.partner_pool >= 0)[:, None], torch.nan)

    def shares(self, epoch: int) -> Shares:
        """Factors of the losses in an epoch, counted from 0."""
        return Shares(*self.config.shares(epoch))


def _projection(config: TeacherConfig, embedding_size: int, width: int) -> nn.Module:
    if config.projection == LINEAR:
        return nn.Linear(embedding_size, width)
    return nn.Sequential(
        nn.Linear(embedding_size, config.hidden), nn.ReLU(), nn.Linear(config.hidden, width)
    )
