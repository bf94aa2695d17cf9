"""One network of a classifier: slices -> images -> backbone -> logits and embedding.

    view = View(backbone, (1, 1), dropout=0.2, num_classes=206, embedding_size=512)
    logits, embedding = view(slices)  # float [B, n_mels, num_frames] in [0, 1]

Shapes: B samples, M mel bands, T frames, E embedding, C classes, G groups of classes; H bands and W
frames of an image.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.model.config import BANDS, IMAGENET, LINEAR, MEAN, NONE, SED, STANDARDISE
from training.model.heads import Gem, SedHead

STANDARD_EPSILON = 1e-6  # added to the deviation of an image
FIXED_SIZE_MULTIPLE = 32  # images for backbones of one size: patches of 16, windows, four stages


class Outputs(NamedTuple):
    """Logits and embedding of B slices."""

    logits: Tensor  # float [B, C]
    embedding: Tensor  # float [B, E], before dropout


class Prediction(Outputs):
    """Predictions of B slices: a pair (logits, embedding), with what some models know besides.

    `frame_logits` float [B, T', C] of a SED head, each frame an equal share of the slice in order
    of time; None without one. `group_logits` float [B, G] of a view with heads for groups of
    classes, which learn with the others; None without, and of a whole classifier.
    """

    frame_logits: Tensor | None
    group_logits: Tensor | None

    def __new__(
        cls,
        logits: Tensor,
        embedding: Tensor,
        frame_logits: Tensor | None = None,
        group_logits: Tensor | None = None,
    ) -> Self:
        """Makes the pair, and remembers the rest."""
        pair = super().__new__(cls, logits, embedding)
        pair.frame_logits = frame_logits
        pair.group_logits = group_logits
        return pair


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewDesign:
    """Parts of a view besides its backbone; by default a linear head on pooled features.

    `mean` and `std` are those of the weights' images, of each channel, for `normaliser: imagenet`.
    """

    head: str = LINEAR
    frequency_pooling: str = MEAN
    gem: bool = False  # the backbone gives a feature map, which is pooled here
    channels: int = 1
    normaliser: str = NONE
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    num_groups: int = 0


PLAIN = ViewDesign()


class View(nn.Module):
    """One network: slices, averaged over `bands x frames` -> logits and embedding."""

    def __init__(
        self,
        backbone: nn.Module,
        pool: tuple[int, int],
        *,
        dropout: float,
        num_classes: int,
        embedding_size: int,
        fixed_size: bool = False,
        design: ViewDesign = PLAIN,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = (
            SedHead(
                embedding_size,
                num_classes,
                dropout=dropout,
                frequency_pooling=design.frequency_pooling,
            )
            if design.head == SED
            else nn.Linear(embedding_size, num_classes)
        )
        self.pooling = Gem((2, 3)) if design.gem else None
        groups = design.num_groups
        self.group_head = nn.Linear(embedding_size, groups) if groups else None
        self.full_batch = 0  # see `Classifier.fill_up`
        self.frozen = False  # see `Classifier.freeze_backbones`
        self._pool = pool
        self._fixed_size = fixed_size
        self._design = design

    def forward(self, slices_BMT: Tensor) -> Prediction:
        """Logits and embeddings of slices, float [B, M, T] in [0, 1]."""
        images = prepare_images(slices_BMT, self._pool, self._fixed_size)
        features = self._features(normalise_images(images, self._design))
        if isinstance(self.head, SedHead):
            logits, frame_logits, embedding_BE = self.head(features)
        else:
            embedding_BE = features if self.pooling is None else self.pooling(features)
            logits, frame_logits = self.head(self.dropout(embedding_BE)), None
        groups = None if self.group_head is None else self.group_head(self.dropout(embedding_BE))
        return Prediction(logits, embedding_BE, frame_logits, groups)

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; a frozen backbone stays in evaluation mode, with its norms' statistics."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def _features(self, images: Tensor) -> Tensor:
        """Output of the backbone: embeddings [B, E], or a feature map [B, E, H, T]."""
        if self.full_batch and not self.training:
            features = self._filled_up(images)
        elif self.frozen and self.training:
            with torch.no_grad():
                features = self.backbone(images)
            # DDP waits for a gradient of every parameter; it is zero, and dropped before the step
            features = features + 0.0 * sum(one.sum() for one in self.backbone.parameters())
        else:
            features = self.backbone(images)
        return channels_first(features, self.backbone)

    def _filled_up(self, images: Tensor) -> Tensor:
        """Features of a batch that is filled up to `full_batch`."""
        missing = max(0, self.full_batch - len(images))
        filled_up = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)])
        features: Tensor = self.backbone(filled_up)[: len(images)]
        return features


def prepare_images(slices_BMT: Tensor, pool: tuple[int, int], fixed_size: bool) -> Tensor:
    """Slices as images [B, 1, H, W] in the memory format in which convolutions are fastest.

    A cell is the mean over a `pool` of bands x frames.

    For backbones of one image size, silence is added after and above up to a multiple of 32.
    """
    images = slices_BMT[:, None]
    if max(pool) > 1:
        images = functional.avg_pool2d(images, pool)
    if fixed_size:
        height, width = images.shape[2:]
        rest = (-width % FIXED_SIZE_MULTIPLE, -height % FIXED_SIZE_MULTIPLE)
        images = functional.pad(images, (0, rest[0], 0, rest[1]))
    return images.contiguous(memory_format=torch.channels_last)


def normalise_images(images: Tensor, design: ViewDesign) -> Tensor:
    """Images [B, 1, H, W] as the backbone wants them: channels, and the level of the cells.

    `standardise` subtracts the mean of the cells of each image and divides by their deviation; a
    constant image becomes zeros. `bands` first subtracts from each band its mean over time, so that
    steady noise and the colour of a microphone are gone. `imagenet` does so with the mean and
    deviation of the colours that timm's weights were learned with. Padding of fixed sizes takes
    part, so it stays silence.
    """
    if design.normaliser == BANDS:
        images = images - images.mean(dim=3, keepdim=True)
    if design.normaliser in (STANDARDISE, BANDS):
        std, mean = torch.std_mean(images, dim=(1, 2, 3), correction=0, keepdim=True)
        images = (images - mean) / (std + STANDARD_EPSILON)
    if design.channels > 1:
        images = images.expand(-1, design.channels, -1, -1)
        if design.normaliser == IMAGENET:
            mean, std = (
                images.new_tensor(values)[:, None, None] for values in (design.mean, design.std)
            )
            images = (images - mean) / std
        images = images.contiguous(memory_format=torch.channels_last)
    return images


def channels_first(features: Tensor, backbone: nn.Module) -> Tensor:
    """Feature maps [B, E, H, W], also of backbones that put the features last; others as is."""
    if features.ndim == 4 and getattr(backbone, "output_fmt", "NCHW") == "NHWC":
        return features.permute(0, 3, 1, 2)
    return features
