"""A timm backbone with one input channel, pooled to an embedding, and a linear head; or several.

    config = ModelConfig(backbone="resnet18")
    model = build_classifier(config, num_classes=206, slice_shape=(128, 313))
    logits, embedding = model(slices)  # float [B, n_mels, num_frames] in [0, 1]

Shapes: B samples, M mel bands, T frames, E embedding, C classes.
"""

import math
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple, cast

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from storage.errors import ConfigError
from training.model.config import ModelConfig
from training.model.hub import weights_source
from training.model.pretrained import Meaning, start_backbones, start_heads
from training.model.torch_files import first_line

FIXED_SIZE_MULTIPLE = 32  # images for backbones of one size: patches of 16, windows, four stages


class Prediction(NamedTuple):
    """Predictions of B slices."""

    logits: Tensor  # float [B, C]
    embedding: Tensor  # float [B, E], before dropout


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
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(embedding_size, num_classes)
        self.full_batch = 0  # see `Classifier.compile_backbones`
        self._pool = pool
        self._fixed_size = fixed_size

    def forward(self, slices_BMT: Tensor) -> Prediction:
        """Logits and embeddings of slices, float [B, M, T] in [0, 1]."""
        images = prepare_images(slices_BMT, self._pool, self._fixed_size)
        if self.full_batch and not self.training:
            embedding_BE = self._embed_filled_up(images)
        else:
            embedding_BE = self.backbone(images)
        return Prediction(self.head(self.dropout(embedding_BE)), embedding_BE)

    def _embed_filled_up(self, images: Tensor) -> Tensor:
        """Embeddings of a batch that is filled up to `full_batch` for a compiled backbone."""
        missing = max(0, self.full_batch - len(images))
        filled_up = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)])
        embedding_BE: Tensor = self.backbone(filled_up)[: len(images)]
        return embedding_BE


class Classifier(nn.Module):
    """Slices -> logits and embedding, by one or several views. Made by `build_classifier`.

    Several are an ensemble (Lakshminarayanan et al., NeurIPS 2017): each learns by its own loss,
    and the logits are those of the mean of their probabilities. Embeddings stand side by side.
    """

    def __init__(self, views: Sequence[View], output: str) -> None:
        super().__init__()
        self.views = cast("Sequence[View]", nn.ModuleList(views))
        self.num_classes = views[0].head.out_features
        self.embedding_size = sum(view.head.in_features for view in views)
        self._output = output

    def forward(self, slices_BMT: Tensor) -> Prediction:
        """Logits and embeddings of slices, float [B, M, T] in [0, 1]."""
        logits, embeddings = zip(*(view(slices_BMT) for view in self.views), strict=True)
        return Prediction(mean_logits(logits, self._output), torch.cat(embeddings, dim=1))

    def compile_backbones(self, *, full_batch: int) -> None:
        """Compiles the backbones in place, so that weights keep their names.

        In evaluation, batches smaller than `full_batch` are filled up and cut again: each new
        batch size would compile again.
        """
        for view in self.views:
            view.full_batch = full_batch
            view.backbone.compile(dynamic=False)


def check_backbone(config: ModelConfig) -> None:
    """Raises ConfigError on a backbone that timm does not have."""
    if not timm.is_model(config.backbone.split(".")[0]):
        near = get_close_matches(config.backbone, timm.list_models(), n=4, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(f"model.backbone={config.backbone} is no model of timm{hint}")


def build_classifier(
    config: ModelConfig,
    *,
    num_classes: int,
    slice_shape: tuple[int, int],
    meaning: Meaning | None = None,
) -> Classifier:
    """A classifier for slices of `slice_shape` (mel bands, frames).

    With `meaning`, a checkpoint of melbank as `model.weights_file` is held against it: its heads
    are taken too where the labels are equal. Raises ConfigError where the backbone cannot take such
    slices, or its weights cannot be had or do not fit.
    """
    views = [
        _build_view(config, (bands, frames), num_classes=num_classes, slice_shape=slice_shape)
        for bands, frames in config.views
    ]
    model = Classifier(views, config.output)
    if config.weights_file:
        backbones = [view.backbone for view in views]
        weights = start_backbones(backbones, config.weights_file, config.backbone)
        if meaning is not None:
            start_heads(model, weights, meaning)
    return model


def _build_view(
    config: ModelConfig, pool: tuple[int, int], *, num_classes: int, slice_shape: tuple[int, int]
) -> View:
    name = f"the view {list(pool)} of model.views"
    if pool[0] > slice_shape[0] or pool[1] > slice_shape[1]:
        raise ConfigError(f"{name} leaves nothing of slices of {slice_shape[0]} x {slice_shape[1]}")
    architecture = timm.get_pretrained_cfg(config.backbone.split(".")[0])
    fixed_size = bool(architecture and architecture.fixed_input_size)  # most transformers
    image = prepare_images(torch.zeros(1, *slice_shape), pool, fixed_size)
    backbone = _build_backbone(config, img_size=tuple(image.shape[2:]) if fixed_size else None)
    backbone = backbone.to(memory_format=torch.channels_last)
    try:
        with torch.no_grad():
            embedding_size = backbone.eval()(image).shape[1]
    except (RuntimeError, AssertionError, IndexError) as error:
        raise ConfigError(
            f"model.backbone={config.backbone} cannot take slices of {slice_shape[0]} x "
            f"{slice_shape[1]} in {name}: {error}"
        ) from error
    return View(
        backbone.train(),
        pool,
        dropout=config.dropout,
        num_classes=num_classes,
        embedding_size=embedding_size,
        fixed_size=fixed_size,
    )


def mean_logits(logits: Sequence[Tensor], output: str) -> Tensor:
    """Logits [B, C] whose probabilities, by `model.output`, are the means of those of all."""
    if len(logits) == 1:
        return logits[0]
    stacked = torch.stack([one.float() for one in logits])
    if output == "softmax":
        return stacked.log_softmax(2).logsumexp(0) - math.log(len(logits))
    yes, no = (functional.logsigmoid(side).logsumexp(0) for side in (stacked, -stacked))
    return yes - no


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


def probabilities(logits: Tensor, output: str) -> Tensor:
    """float32 [B, C] by `model.output`: softmax, rows of sum one, or sigmoid, each for itself."""
    logits = logits.float()
    return logits.softmax(1) if output == "softmax" else logits.sigmoid()


def narrowest_image(config: ModelConfig, slice_shape: tuple[int, int]) -> int:
    """The fewest frames of an image that a backbone sees of slices of this shape."""
    return min(slice_shape[1] // frames for _, frames in config.views)


def num_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _build_backbone(config: ModelConfig, img_size: tuple[int, ...] | None) -> nn.Module:
    options: dict[str, Any] = {"in_chans": 1, "num_classes": 0, "global_pool": config.pooling}
    if img_size is not None:
        options["img_size"] = img_size
    pretrained = config.pretrained and not config.weights_file
    if pretrained and (overlay := weights_source(config.backbone)):
        options["pretrained_cfg_overlay"] = overlay
    try:
        backbone: nn.Module = timm.create_model(config.backbone, pretrained=pretrained, **options)
    except (OSError, RuntimeError, AssertionError, TypeError, KeyError) as error:
        source = "its hub" if pretrained else "nothing"
        raise ConfigError(
            f"model.backbone={config.backbone} cannot be built with pooling={config.pooling} and "
            f"weights from {source}: {first_line(error)}"
        ) from error
    return backbone
