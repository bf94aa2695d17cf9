"""A head that is computed from embeddings, not learned: cosines with the means of the classes.

    moments = ClassMoments(num_classes=84, sizes=[512, 512])
    moments.add(embeddings_BE, weights_BC)
    head = moments.head(RefitConfig(kind="cosine"))
    logits = head(embedding_BE)

A learned head seldom predicts a class of few recordings, since its bias and the length of its
weights grow with their number (Kang et al., ICLR 2020, who therefore learn features first and the
classifier apart from them). Here all classes are alike: the embeddings of a model's networks, each
scaled to length 1 and side by side, are whitened by the covariance within classes, which is what
recordings of one class differ in, and the logit of a class is `scale` times the cosine with its
mean. Sources: within-class covariance normalisation of Hatch et al., Interspeech 2006, with the
cosines of Dehak et al., IEEE TASLP 2011, by which voices of few recordings are told apart.

Shapes: B slices, E numbers of the embeddings of all networks, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.model.config import RefitConfig


class CosineHead(nn.Module):
    """Logits of embeddings by their cosines with the classes, in 32 bits.

    `sizes`: numbers of the embedding of each network. Zeros until weights are loaded, or made by
    `ClassMoments.head`. A class of which there was no slice has a logit of 0: unrelated to any.
    """

    centre_E: Tensor
    whitening_EE: Tensor
    classes_CE: Tensor
    scale: Tensor

    def __init__(self, sizes: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self._sizes = list(sizes)
        self.register_buffer("centre_E", torch.zeros(sum(sizes)))
        self.register_buffer("whitening_EE", torch.zeros(sum(sizes), sum(sizes)))
        self.register_buffer("classes_CE", torch.zeros(num_classes, sum(sizes)))
        self.register_buffer("scale", torch.zeros(()))

    def forward(self, embeddings_BE: Tensor) -> Tensor:
        """Logits, float32 [B, C]."""
        with torch.autocast(embeddings_BE.device.type, enabled=False):
            unit_BE = _unit_parts(embeddings_BE.float(), self._sizes)
            white_BE = functional.normalize((unit_BE - self.centre_E) @ self.whitening_EE, dim=1)
            cosines_BC: Tensor = white_BE @ self.classes_CE.T
            return self.scale * cosines_BC


@dataclass(slots=True, kw_only=True)
class ClassMoments:
    """Sums over slices from which a head is computed; those of several ranks can be added.

    Memory: (C + E) x E numbers of 64 bits, for any number of slices.
    """

    num_classes: int
    sizes: Sequence[int]  # numbers of the embedding of each network
    mass_C: Tensor = field(init=False)  # float64, sum of weights
    sum_CE: Tensor = field(init=False)  # float64, sum of weights times embeddings
    square_EE: Tensor = field(init=False)  # float64, sum of weights times their outer products

    def __post_init__(self) -> None:
        size = sum(self.sizes)
        self.mass_C = torch.zeros(self.num_classes, dtype=torch.float64)
        self.sum_CE = torch.zeros(self.num_classes, size, dtype=torch.float64)
        self.square_EE = torch.zeros(size, size, dtype=torch.float64)

    def add(self, embeddings_BE: Tensor, weights_BC: Tensor) -> None:
        """Adds slices with the weight that each has in each class; weights of 0 add nothing."""
        unit_BE = _unit_parts(embeddings_BE.double(), self.sizes)
        weights_BC = weights_BC.double()
        self.mass_C += weights_BC.sum(0)
        self.sum_CE += weights_BC.T @ unit_BE
        self.square_EE += (weights_BC.sum(1, keepdim=True) * unit_BE).T @ unit_BE

    def add_up(self, over_ranks: Callable[[Tensor], Tensor]) -> None:
        """Replaces the sums by those of all ranks, which `over_ranks` gives."""
        self.mass_C = over_ranks(self.mass_C)
        self.sum_CE = over_ranks(self.sum_CE)
        self.square_EE = over_ranks(self.square_EE)

    def head(self, config: RefitConfig) -> CosineHead:
        """The head of these slices.

        The covariance within classes is shrunk towards one that is equal in all directions:
        (1 - s) x covariance + s x its mean variance, as there are fewer recordings than numbers.
        """
        known_C = self.mass_C > 0
        mean_CE = self.sum_CE / self.mass_C.clamp_min(1e-300)[:, None]
        centre_E = mean_CE[known_C].mean(0) if known_C.any() else mean_CE.sum(0)
        whitening_EE = self._whitening(mean_CE, config.shrinkage)
        head = CosineHead(self.sizes, self.num_classes)
        head.centre_E.copy_(centre_E)
        head.whitening_EE.copy_(whitening_EE)
        classes_CE = functional.normalize((mean_CE - centre_E) @ whitening_EE, dim=1)
        head.classes_CE.copy_(classes_CE * known_C[:, None])
        head.scale.fill_(config.scale)
        return head

    def _whitening(self, mean_CE: Tensor, shrinkage: float) -> Tensor:
        """W with W W' = inverse of the shrunk covariance within classes; where all slices of each
        class are the same there is none, and W leaves directions as they are."""
        size = sum(self.sizes)
        identity_EE = torch.eye(size, dtype=torch.float64)
        between_EE = (self.mass_C[:, None] * mean_CE).T @ mean_CE
        within_EE = (self.square_EE - between_EE) / self.mass_C.sum().clamp_min(1e-300)
        variance = within_EE.trace() / size
        if variance <= 1e-12:
            return identity_EE
        shrunk_EE = (1 - shrinkage) * within_EE + shrinkage * variance * identity_EE
        whitening_EE: Tensor = torch.linalg.cholesky(torch.linalg.inv(shrunk_EE))
        return whitening_EE


def _unit_parts(embeddings_BE: Tensor, sizes: Sequence[int]) -> Tensor:
    """Each network's part of the embeddings scaled to length 1."""
    parts = torch.split(embeddings_BE, list(sizes), dim=1)
    return torch.cat([functional.normalize(part, dim=1) for part in parts], dim=1)
