"""A timm backbone with one input channel, pooled to an embedding, and a linear head.

    config = ModelConfig(backbone="resnet18")
    model = build_classifier(config, num_classes=206, slice_shape=(128, 313))
    logits, embedding = model(slices)  # float [B, n_mels, num_frames] in [0, 1]

Shapes: B samples, M mel bands, T frames, E embedding, C classes.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from storage.errors import ConfigError
from storage.options import check_at_least, option

POOLINGS = ("avg", "max", "avgmax", "catavgmax")
OUTPUTS = ("softmax", "sigmoid")
FIXED_SIZE_MULTIPLE = 32  # images for backbones of one size: patches of 16, windows, four stages


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Backbone, pooling and output."""

    backbone: str = option("resnet18", "any timm model by name")
    pretrained: bool = option(False, "start from timm's weights, fetched from the model's hub")
    weights_file: str = option("", "pretrained weights from this file instead of the hub")
    pooling: str = option("avgmax", "avg, max, avgmax (their mean) or catavgmax (side by side)")
    dropout: float = option(0.2, "dropout before the head")
    stem_pool: int = option(1, "average cells of the slice n x n before the backbone; 1: as it is")
    output: str = option("softmax", "probabilities from logits: softmax or sigmoid")

    def __post_init__(self) -> None:
        if not timm.is_model(self.backbone.split(".")[0]):
            near = get_close_matches(self.backbone, timm.list_models(), n=4, cutoff=0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ConfigError(f"model.backbone={self.backbone} is no model of timm{hint}")
        if self.pooling not in POOLINGS:
            raise ConfigError(f"model.pooling={self.pooling} is none of {', '.join(POOLINGS)}")
        if self.output not in OUTPUTS:
            raise ConfigError(f"model.output={self.output} is none of {', '.join(OUTPUTS)}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout={self.dropout} must lie from 0 to below 1")
        check_at_least(self, "model", 1, "stem_pool")
        if self.weights_file and not Path(self.weights_file).is_file():
            raise ConfigError(f"model.weights_file={self.weights_file} does not exist")


class Prediction(NamedTuple):
    """What the model says about B slices."""

    logits: Tensor  # float [B, C]
    embedding: Tensor  # float [B, E], before dropout


class Classifier(nn.Module):
    """Slices -> logits and embedding. Made by `build_classifier`."""

    def __init__(
        self, backbone: nn.Module, config: ModelConfig, *, num_classes: int, embedding_size: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(embedding_size, num_classes)
        self.embedding_size = embedding_size
        self._stem_pool = config.stem_pool
        self._full_batch = 0

    def forward(self, slices_BMT: Tensor) -> Prediction:
        """Logits and embeddings of slices, float [B, M, T] in [0, 1]."""
        images = prepare_images(slices_BMT, self._stem_pool, needs_fixed_size(self.backbone))
        missing = 0 if self.training else max(0, self._full_batch - len(images))
        if missing:
            images = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)])
        embedding_BE = self.backbone(images)[: len(slices_BMT)]
        return Prediction(self.head(self.dropout(embedding_BE)), embedding_BE)

    def compile_backbone(self, *, full_batch: int) -> None:
        """Compiles the backbone in place, so that weights keep their names.

        In evaluation, batches smaller than `full_batch` are filled up and cut again: each new
        batch size would compile anew.
        """
        self._full_batch = full_batch
        self.backbone.compile(dynamic=False)


def build_classifier(
    config: ModelConfig, *, num_classes: int, slice_shape: tuple[int, int]
) -> Classifier:
    """A classifier for slices of `slice_shape` (mel bands, frames).

    Raises ConfigError where the backbone cannot take such slices, or its weights cannot be had.
    """
    if config.stem_pool > min(slice_shape):
        raise ConfigError(
            f"model.stem_pool={config.stem_pool} leaves nothing of slices of "
            f"{slice_shape[0]} x {slice_shape[1]}"
        )
    example = torch.zeros(1, *slice_shape)
    architecture = timm.get_pretrained_cfg(config.backbone.split(".")[0])
    fixed_size = bool(architecture and architecture.fixed_input_size)
    image = prepare_images(example, config.stem_pool, fixed_size)
    backbone = _build_backbone(config, img_size=tuple(image.shape[2:]) if fixed_size else None)
    backbone = backbone.to(memory_format=torch.channels_last)
    try:
        with torch.no_grad():
            embedding_size = backbone.eval()(image).shape[1]
    except (RuntimeError, AssertionError, IndexError) as error:
        raise ConfigError(
            f"model.backbone={config.backbone} cannot take slices of {slice_shape[0]} x "
            f"{slice_shape[1]} with model.stem_pool={config.stem_pool}: {error}"
        ) from error
    return Classifier(
        backbone.train(), config, num_classes=num_classes, embedding_size=embedding_size
    )


def prepare_images(slices_BMT: Tensor, stem_pool: int, fixed_size: bool) -> Tensor:
    """Slices as images [B, 1, H, W] in the memory format in which convolutions are fastest.

    For backbones of one image size, silence is added behind and above up to a multiple of 32.
    """
    images = slices_BMT[:, None]
    if stem_pool > 1:
        images = functional.avg_pool2d(images, stem_pool)
    if fixed_size:
        height, width = images.shape[2:]
        rest = (-width % FIXED_SIZE_MULTIPLE, -height % FIXED_SIZE_MULTIPLE)
        images = functional.pad(images, (0, rest[0], 0, rest[1]))
    return images.contiguous(memory_format=torch.channels_last)


def needs_fixed_size(backbone: nn.Module) -> bool:
    """Whether a backbone is built for one image size, as most transformers are."""
    return bool(getattr(backbone, "pretrained_cfg", {}).get("fixed_input_size", False))


def probabilities(logits: Tensor, output: str) -> Tensor:
    """float32 [B, C] by `model.output`: softmax, rows of sum one, or sigmoid, each for itself."""
    logits = logits.float()
    return logits.softmax(1) if output == "softmax" else logits.sigmoid()


def num_parameters(model: nn.Module) -> int:
    """How many numbers training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _build_backbone(config: ModelConfig, img_size: tuple[int, ...] | None) -> nn.Module:
    options: dict[str, Any] = {"in_chans": 1, "num_classes": 0, "global_pool": config.pooling}
    if img_size is not None:
        options["img_size"] = img_size
    if config.weights_file:
        options["pretrained_cfg_overlay"] = {"file": config.weights_file}
    pretrained = config.pretrained or bool(config.weights_file)
    try:
        backbone: nn.Module = timm.create_model(config.backbone, pretrained=pretrained, **options)
    except (OSError, RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        source = config.weights_file or ("its hub" if pretrained else "nothing")
        raise ConfigError(
            f"model.backbone={config.backbone} cannot be built with pooling={config.pooling} and "
            f"weights from {source}: {reason}"
        ) from error
    return backbone
