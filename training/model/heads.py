"""Pooling of feature maps, and the head that predicts every frame of a slice.

    head = SedHead(512, num_classes=206, dropout=0.2, frequency_pooling="gem")
    logits, frame_logits, embedding = head(features)  # float [B, E, H, T]

Shapes: B samples, E features, H bands and T frames of a feature map, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.model.config import GEM

GEM_POWER = 3.0  # at the beginning, as in Radenovic et al.
GEM_FLOOR = 1e-6  # features below it, also negative ones, count as this
NEIGHBOURS = 3  # frames


class Gem(nn.Module):
    """Generalised mean over some axes, (mean of x^p)^(1/p) with a learned p, from 3 on.

    p = 1 is the mean; the larger p, the nearer to the maximum. Source: Radenovic et al., TPAMI
    2018; over frequency alone in BirdCLEF 2025, 1st place.
    """

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor([GEM_POWER]))
        self._axes = axes

    def forward(self, features: Tensor) -> Tensor:
        """float32, without the axes."""
        powers = features.float().clamp_min(GEM_FLOOR).pow(self.power)
        mean: Tensor = powers.mean(self._axes)
        return mean.pow(1 / self.power)


class SedPrediction(NamedTuple):
    """Output of a head for sound event detection."""

    logits: Tensor  # [B, C]
    frame_logits: Tensor  # [B, T, C]
    embedding: Tensor  # [B, E]: mean over time of the features that are pooled over frequency


class SedHead(nn.Module):
    """Attention over time: logits of frames, and of the slice their weighted sum.

    Feature map -> mean or GeM over frequency -> maximum plus mean of 3 neighbouring frames ->
    dropout, linear layer, ReLU, dropout -> per frame and class a logit and an attention; the
    attention of a class is softmax over time of tanh. Source: Kong et al., PANNs, IEEE/ACM TASLP
    2020, Cnn14_DecisionLevelAtt; as in BirdCLEF's SED heads the weighted sum is of logits, not of
    probabilities, so that any loss can follow.
    """

    def __init__(
        self, in_features: int, num_classes: int, *, dropout: float, frequency_pooling: str
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = num_classes
        self.frequency = Gem((2,)) if frequency_pooling == GEM else None
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(in_features, in_features)
        self.attention = nn.Linear(in_features, num_classes)
        self.classes = nn.Linear(in_features, num_classes)

    def forward(self, features_BEHT: Tensor) -> SedPrediction:
        """Predicts from feature maps of a backbone, float [B, E, H, T]."""
        pooled_BET = (
            features_BEHT.mean(2) if self.frequency is None else self.frequency(features_BEHT)
        )
        largest_BET = functional.max_pool1d(pooled_BET, NEIGHBOURS, stride=1, padding=1)
        smooth_BET = largest_BET + functional.avg_pool1d(pooled_BET, NEIGHBOURS, 1, padding=1)
        frames_BTE = self.hidden(self.dropout(smooth_BET.transpose(1, 2))).relu()
        frames_BTE = self.dropout(frames_BTE)
        attention_BTC = self.attention(frames_BTE).tanh().softmax(1)
        logits_BTC = self.classes(frames_BTE)
        return SedPrediction((attention_BTC * logits_BTC).sum(1), logits_BTC, pooled_BET.mean(2))
