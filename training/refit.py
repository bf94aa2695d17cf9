"""Heads of a fold that are computed from its training slices when its last epoch is over.

    bad = refit_heads(checkpoint, data, config.refit, Compute(device=device, precision="32-true"))

The slices are those of the first epochs of the training's own plan, as they are stored, so that
conditions, pools, balance and targets hold here too.
"""

import io
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from datasets.augment.inject import joined
from datasets.batch import Batch
from datasets.loading.quarantine import BadSlice
from training.config import accumulation
from training.fold_data import FoldData
from training.model.checkpoints import TrainedClassifier, read_checkpoint
from training.model.config import RefitConfig
from training.model.cosine_head import ClassMoments, CosineHead
from training.model.predict import predict_batch
from training.model.pretrained import COSINE_HEAD, MODEL_PREFIX
from training.model.torch_files import read_torch
from training.runtime.bar import count_bar
from training.runtime.files import write_whole
from training.runtime.ranks import gather_ranks, is_first_rank, num_ranks, rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Device and precision of predictions; `bar` begins the progress bar, and is empty for none."""

    device: torch.device
    precision: str
    bar: str = ""


def refit_heads(
    checkpoint: Path, data: FoldData, config: RefitConfig, compute: Compute
) -> list[BadSlice]:
    """Adds the heads to a checkpoint in place; returns the slices that this rank could not read.

    All ranks call it, each adds up its share, and the first one writes. The same again gives the
    same, so a stop in between does no harm.
    """
    trained = read_checkpoint(checkpoint)
    size = [view.head.in_features for view in trained.model.views]
    moments = [
        ClassMoments(num_classes=trained.model.num_classes, embedding_size=one) for one in size
    ]
    plain = replace(data, transform=None, teacher=None)
    together = accumulation(
        data.config.trainer.effective_batch_size, data.train_loader.batch_size, num_ranks()
    )  # as in training, so that an epoch has the same samples on any number of ranks
    reader = plain.train_reader(accumulation=together, rank=rank(), world_size=num_ranks())
    total = config.epochs * len(reader)
    with closing(reader), count_bar(compute.bar, total, " batch") as bar:
        for epoch in range(config.epochs):
            reader.set_epoch(epoch)
            for batch in reader:
                embeddings_BE = _embed(trained, batch, compute)
                weights_BC = batch.targets.nan_to_num(0.0)
                for one, part_BE in zip(moments, embeddings_BE.split(size, dim=1), strict=True):
                    one.add(part_BE, weights_BC)
                bar.update()
    for one in moments:
        one.add_up(lambda sums: gather_ranks(sums[None]).sum(0))
    if is_first_rank():
        _write_heads(checkpoint, [one.head(config) for one in moments])
    return reader.bad


def _embed(trained: TrainedClassifier, batch: Batch, compute: Compute) -> Tensor:
    """Embeddings of the samples of a batch as they are stored, float32 [B, E], on the CPU."""
    model = trained.model.to(compute.device)
    slices, levels = batch.slices.to(compute.device), batch.levels
    cells = joined(
        slices, None if levels is None else levels.to(compute.device), trained.recipe.top_db
    )
    output, precision = trained.model_config.output, compute.precision
    return predict_batch(model, cells, output=output, precision=precision)[1].cpu()


def _write_heads(checkpoint: Path, heads: Sequence[CosineHead]) -> None:
    """Puts the weights of a head for each view next to those of the model."""
    contents = read_torch(checkpoint)
    for number, head in enumerate(heads):
        for name, value in head.state_dict().items():
            contents["state_dict"][f"{MODEL_PREFIX}views.{number}{COSINE_HEAD}{name}"] = value
    data = io.BytesIO()
    torch.save(contents, data)
    write_whole(checkpoint, data.getvalue())
