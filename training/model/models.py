"""A timm backbone, pooled to an embedding, and a linear head or one with frames; or several.

    config = ModelConfig(backbone="resnet18")
    model = build_classifier(config, num_classes=206, slice_shape=(128, 313))
    logits, embedding = model(slices)  # float [B, n_mels, num_frames] in [0, 1]

Shapes: B samples, M mel bands, T frames, E embedding, C classes.
"""

import math
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from storage.errors import ConfigError
from training.model.config import (
    ALL,
    GEM,
    IMAGENET,
    LINEAR,
    SED,
    ModelConfig,
)
from training.model.cosine_head import CosineHead
from training.model.heads import SedHead
from training.model.hub import weights_source
from training.model.pretrained import Meaning, start_backbones, start_heads
from training.model.torch_files import first_line
from training.model.views import Prediction, View, ViewDesign, channels_first, prepare_images


class Classifier(nn.Module):
    """Slices -> logits and embedding, by one or several views. Made by `build_classifier`.

    Several are an ensemble (Lakshminarayanan et al., NeurIPS 2017): each learns by its own loss,
    and the logits are those of the mean of their probabilities. Embeddings stand side by side, and
    a computed head predicts from all of them.
    """

    def __init__(self, views: Sequence[View], output: str) -> None:
        super().__init__()
        self.views = cast("Sequence[View]", nn.ModuleList(views))
        self.num_classes = views[0].head.out_features
        self.embedding_sizes = [view.head.in_features for view in views]
        self.embedding_size = sum(self.embedding_sizes)
        self.cosine_head: CosineHead | None = None  # see `add_cosine_head`
        self._output = output

    @property
    def has_frames(self) -> bool:
        """True where predictions have frame logits."""
        return all(isinstance(view.head, SedHead) for view in self.views)

    def forward(self, slices_BMT: Tensor) -> Prediction:
        """Logits and embeddings of slices, float [B, M, T] in [0, 1]."""
        found = [view(slices_BMT) for view in self.views]
        frames = [one.frame_logits for one in found if one.frame_logits is not None]
        embedding_BE = torch.cat([one.embedding for one in found], dim=1)
        if self.cosine_head is None or self.training:
            logits = mean_logits([one.logits for one in found], self._output)
        else:
            logits = self.cosine_head(embedding_BE)
        return Prediction(
            logits, embedding_BE, mean_frame_logits(frames, self._output) if frames else None
        )

    def add_cosine_head(self) -> None:
        """Adds the head by which the model predicts once weights for it are loaded.

        The learned heads stay, for training that begins with these weights.
        """
        self.cosine_head = CosineHead(self.embedding_sizes, self.num_classes)

    def compile_backbones(self, *, full_batch: int) -> None:
        """Compiles the backbones in place, so that weights keep their names.

        In evaluation batches are filled up: each new batch size would compile again.
        """
        self.fill_up(full_batch)
        for view in self.views:
            view.backbone.compile(dynamic=False)

    def fill_up(self, full_batch: int) -> None:
        """Fills up smaller batches in evaluation, and cuts what comes of them again.

        So no slice is rounded otherwise because its batch is of another size.
        """
        for view in self.views:
            view.full_batch = full_batch

    def freeze_backbones(self, frozen: bool) -> None:
        """Keeps the backbones, with their norms' statistics, as they are; or lets them learn.

        Call `drop_frozen_gradients` before each optimizer step.
        """
        for view in self.views:
            if view.frozen != frozen:
                view.frozen = frozen
                view.train(view.training)

    def drop_frozen_gradients(self) -> None:
        """Keeps optimizers from touching frozen parameters: neither moments nor weight decay."""
        for view in self.views:
            if view.frozen:
                for parameter in view.backbone.parameters():
                    parameter.grad = None


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
    num_groups: int = 0,
) -> Classifier:
    """A classifier for slices of `slice_shape` (mel bands, frames).

    `num_groups` is the number of outputs of the heads for groups of classes.

    With `meaning`, a checkpoint of melbank as `model.weights_file` is held against it: its heads
    are taken too where the labels are equal. Raises ConfigError where the backbone cannot take such
    slices, or its weights cannot be had or do not fit.
    """
    views = [
        _build_view(
            config,
            (bands, frames),
            num_classes=num_classes,
            slice_shape=slice_shape,
            num_groups=num_groups,
        )
        for bands, frames in config.views
    ]
    model = Classifier(views, config.output)
    if config.weights_file:
        backbones = [view.backbone for view in views]
        weights = start_backbones(backbones, config)
        if meaning is not None:
            start_heads(model, weights, meaning, heads=config.start == ALL)
    return model


def _build_view(
    config: ModelConfig,
    pool: tuple[int, int],
    *,
    num_classes: int,
    slice_shape: tuple[int, int],
    num_groups: int,
) -> View:
    name = f"the view {list(pool)} of model.views"
    if pool[0] > slice_shape[0] or pool[1] > slice_shape[1]:
        raise ConfigError(f"{name} leaves nothing of slices of {slice_shape[0]} x {slice_shape[1]}")
    architecture = timm.get_pretrained_cfg(config.backbone.split(".")[0])
    fixed_size = bool(architecture and architecture.fixed_input_size)  # most transformers
    image = prepare_images(torch.zeros(1, *slice_shape), pool, fixed_size)
    image = image.expand(-1, config.channels, -1, -1)
    backbone = _build_backbone(config, img_size=tuple(image.shape[2:]) if fixed_size else None)
    backbone = backbone.to(memory_format=torch.channels_last)
    try:
        with torch.no_grad():
            features = channels_first(backbone.eval()(image), backbone)
    except (RuntimeError, AssertionError, IndexError) as error:
        raise ConfigError(
            f"model.backbone={config.backbone} cannot take slices of {slice_shape[0]} x "
            f"{slice_shape[1]} in {name}: {error}"
        ) from error
    if gives_maps(config) and features.ndim != 4:
        raise ConfigError(
            f"model.backbone={config.backbone} gives no feature map of bands x frames, which "
            f"model.head={SED} and model.pooling={GEM} need: take a convolutional one"
        )
    return View(
        backbone.train(),
        pool,
        dropout=config.dropout,
        num_classes=num_classes,
        embedding_size=features.shape[1],
        fixed_size=fixed_size,
        design=_design(config, backbone, num_groups),
    )


def _design(config: ModelConfig, backbone: Any, num_groups: int) -> ViewDesign:
    colours = backbone.pretrained_cfg if config.normaliser == IMAGENET else {}
    return ViewDesign(
        head=config.head,
        frequency_pooling=config.frequency_pooling,
        gem=config.head == LINEAR and config.pooling == GEM,
        channels=config.channels,
        normaliser=config.normaliser,
        mean=tuple(colours.get("mean") or ()),
        std=tuple(colours.get("std") or ()),
        num_groups=num_groups,
    )


def gives_maps(config: ModelConfig) -> bool:
    """True where the backbone is not to pool its feature map."""
    return config.head == SED or config.pooling == GEM


def mean_logits(logits: Sequence[Tensor], output: str) -> Tensor:
    """Logits [..., C] whose probabilities, by `model.output`, are the means of those of all."""
    if len(logits) == 1:
        return logits[0]
    stacked = torch.stack([one.float() for one in logits])
    if output == "softmax":
        return stacked.log_softmax(-1).logsumexp(0) - math.log(len(logits))
    yes, no = (functional.logsigmoid(side).logsumexp(0) for side in (stacked, -stacked))
    return yes - no


def mean_frame_logits(frames: Sequence[Tensor], output: str) -> Tensor:
    """As `mean_logits`, of logits [B, T', C]; views of fewer frames repeat theirs in time."""
    most = max(one.shape[1] for one in frames)
    centres = 2 * torch.arange(most) + 1
    stretched = [
        one if one.shape[1] == most else one[:, centres * one.shape[1] // (2 * most)]
        for one in frames
    ]
    return mean_logits(stretched, output)


def probabilities(logits: Tensor, output: str) -> Tensor:
    """float32 [..., C] by `model.output`: softmax, rows of sum one, or sigmoid, each for itself."""
    logits = logits.float()
    return logits.softmax(-1) if output == "softmax" else logits.sigmoid()


def narrowest_image(config: ModelConfig, slice_shape: tuple[int, int]) -> int:
    """The fewest frames of an image that a backbone sees of slices of this shape."""
    return min(slice_shape[1] // frames for _, frames in config.views)


def num_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _build_backbone(config: ModelConfig, img_size: tuple[int, ...] | None) -> nn.Module:
    options: dict[str, Any] = {
        "in_chans": config.channels,
        "num_classes": 0,
        "global_pool": "" if gives_maps(config) else config.pooling,
    }
    if config.drop_path:
        options["drop_path_rate"] = config.drop_path
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
            f"model.backbone={config.backbone} cannot be built with pooling={config.pooling}"
            f"{f', drop_path={config.drop_path:g}' if config.drop_path else ''} and weights from "
            f"{source}: {first_line(error)}"
        ) from error
    return backbone
