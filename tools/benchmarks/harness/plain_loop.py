"""A training loop as one writes it in an afternoon: torch and timm alone, all slices in memory.

    probabilities_NC = train_and_predict(learn, held_out, PlainRecipe(), seed=0)

AdamW under a one-cycle schedule (Smith and Topin 2018), a random slice of each recording and epoch,
mixup in dB (Zhang et al. 2018), one mask over time and one over mel bands (Park et al. 2019), cross
entropy. The last epoch counts.

Shapes: N slices, B samples, M mel bands, T frames, C classes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

PREDICT_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainRecipe:
    """Numbers of the loop. `view`: means of so many bands x frames are what the network sees."""

    backbone: str = "resnet10t"
    view: tuple[int, int] = (2, 2)
    epochs: int = 40
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    mixup_alpha: float = 0.4
    mask_fraction: float = 0.15


class Slices(NamedTuple):
    """Slices with their recordings."""

    cells: Tensor  # uint8 [N, M, T]
    targets: Tensor  # float32 [N, C], rows of sum one
    recording_no: np.ndarray  # int64 [N], increasing


def train_and_predict(
    learn: Slices, held_out: Slices, recipe: PlainRecipe, *, seed: int
) -> np.ndarray:
    """Learns from some slices, returns the probabilities of the others, float32 [N, C]."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    model = timm.create_model(
        recipe.backbone, in_chans=1, num_classes=learn.targets.shape[1], pretrained=False
    )
    _, first, counts = np.unique(learn.recording_no, return_index=True, return_counts=True)
    steps = -(-len(first) // recipe.batch_size)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, epochs=recipe.epochs, steps_per_epoch=steps
    )
    model.train()
    for _ in range(recipe.epochs):
        rows = generator.permutation(first + generator.integers(0, counts))
        for batch in np.array_split(rows, steps):
            images, targets = _mixed(learn, batch, recipe, generator)
            loss = cross_entropy(model(_masked(images, recipe, generator)), targets)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch publishes no type
            optimizer.step()
            schedule.step()
    return _predict(model, held_out, recipe)


def _mixed(
    slices: Slices, rows: np.ndarray, recipe: PlainRecipe, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Each sample mixed with another of the batch: images float32 [B, 1, M', T'] and targets."""
    images, targets = _images(slices, rows, recipe), slices.targets[rows]
    shape = (len(rows), 1, 1, 1)
    alpha = recipe.mixup_alpha
    weight = torch.from_numpy(generator.beta(alpha, alpha, shape).astype(np.float32))
    other = torch.from_numpy(generator.permutation(len(rows)))
    mixed = weight * images + (1 - weight) * images[other]
    share = weight[:, :, 0, 0]
    return mixed, share * targets + (1 - share) * targets[other]


def _masked(images: Tensor, recipe: PlainRecipe, generator: np.random.Generator) -> Tensor:
    """One stretch of time and one band of each image set to 0, each up to a share of its axis."""
    for image in images:
        for axis in (1, 2):
            length = image.shape[axis]
            width = int(generator.integers(0, int(recipe.mask_fraction * length) + 1))
            start = int(generator.integers(0, length - width + 1))
            image.narrow(axis, start, width).zero_()
    return images


@torch.inference_mode()
def _predict(model: nn.Module, slices: Slices, recipe: PlainRecipe) -> np.ndarray:
    model.eval()
    batches = np.array_split(
        np.arange(len(slices.cells)), max(1, len(slices.cells) // PREDICT_BATCH)
    )
    logits = torch.cat([model(_images(slices, rows, recipe)) for rows in batches])
    probabilities: np.ndarray = logits.softmax(1).numpy()
    return probabilities


def _images(slices: Slices, rows: np.ndarray, recipe: PlainRecipe) -> Tensor:
    """Cells in [0, 1], averaged over the view, float32 [B, 1, M', T']."""
    return avg_pool2d(slices.cells[rows].float().div(255)[:, None], recipe.view)
