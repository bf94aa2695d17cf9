"""The loss of a prediction: of the slice, of its frames, and of groups of classes.

    objective = Objective(config.loss, groups)
    losses = objective(view(slices), targets)  # float32 [B]

Shapes: B samples, C classes, G groups of classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from training.model.groups import Groups
from training.model.learning.losses import LossConfig, build_loss
from training.model.views import Prediction


class Objective:
    """Weighted sum of the losses of all heads, one value per sample.

        clip_weight L(clip logits) + frame_weight L(maximum over the frames' logits)
        + group_weight (mean over the columns of L(group logits))

    L is the config's loss. Without frames and groups it is clip_weight L(logits), by default L.
    """

    def __init__(self, config: LossConfig, groups: Sequence[Groups] = ()) -> None:
        self._config = config
        self._groups = groups
        self._loss = build_loss(config)

    def __call__(self, prediction: Prediction, targets_BC: Tensor) -> Tensor:
        """Losses float32 [B] of a prediction; terms of weight 0 keep their heads' gradients 0."""
        config = self._config
        losses = self._loss(prediction.logits, targets_BC)
        if config.clip_weight != 1:
            losses = config.clip_weight * losses
        if config.frame_weight and prediction.frame_logits is not None:
            most_BC = prediction.frame_logits.amax(1)
            losses = losses + config.frame_weight * self._loss(most_BC, targets_BC)
        if prediction.group_logits is not None and self._groups:
            losses = losses + config.group_weight * self._of_groups(prediction, targets_BC)
        return losses

    def _of_groups(self, prediction: Prediction, targets_BC: Tensor) -> Tensor:
        """Mean over the columns of the losses of their groups, [B]."""
        if prediction.group_logits is None:
            raise ValueError("a model without heads for groups has no loss of them")
        sizes = [len(one.names) for one in self._groups]
        logits = torch.split(prediction.group_logits, sizes, dim=1)
        losses = [
            self._loss(logits_BG, one.targets(targets_BC))
            for logits_BG, one in zip(logits, self._groups, strict=True)
        ]
        total: Tensor = sum(losses[1:], start=losses[0])
        return total / len(losses)
