"""The head of a fold that is computed from its training slices when its last epoch is over.

    bad = refit_head(checkpoint, data, config.refit, Compute(device=device, precision="32-true"))

The slices are those of the first epochs of the training's own plan, as they are stored, so that
conditions, pools, balance and targets hold here too.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from datasets.batch import Batch
from datasets.loading.quarantine import BadSlice
from datasets.loading.reader import BatchReader
from storage.encoding import to_unit
from training.config import accumulation
from training.fold_data import FoldData
from training.model.checkpoints import put_weights, read_checkpoint
from training.model.config import RefitConfig
from training.model.cosine_head import ClassMoments
from training.model.predict import autocast, cells_of
from training.model.pretrained import COSINE_HEAD
from training.runtime.bar import count_bar
from training.runtime.ranks import first_rank_logger, gather_ranks, is_first_rank, num_ranks, rank

logger = first_rank_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Device and precision of predictions; `bar` begins the progress bar, and is empty for none."""

    device: torch.device
    precision: str
    bar: str = ""


def refit_head(
    checkpoint: Path, data: FoldData, config: RefitConfig, compute: Compute
) -> list[BadSlice]:
    """Adds the head to a checkpoint in place; returns the slices that this rank could not read.

    All ranks call it, each adds up its share, and the first one writes. The same again gives the
    same, so a stop in between does no harm.
    """
    trained = read_checkpoint(checkpoint)
    model = trained.model.to(compute.device)
    moments = ClassMoments(num_classes=model.num_classes, sizes=model.embedding_sizes)
    together = accumulation(
        data.config.trainer.effective_batch_size, data.train_loader.batch_size, num_ranks()
    )  # as in training, so that an epoch has the same samples on any number of ranks
    plain = replace(data, transform=None, teacher=None)
    reader = plain.train_reader(accumulation=together, rank=rank(), world_size=num_ranks())
    with count_bar(compute.bar, config.epochs * len(reader), " batch") as bar:
        for batch in _epochs(reader, config.epochs):
            slices_BMT = to_unit(cells_of(batch, compute.device, trained.recipe.top_db))
            with torch.inference_mode(), autocast(compute.device, compute.precision):
                embeddings_BE = model(slices_BMT).embedding
            moments.add(embeddings_BE.cpu(), main_targets(batch))
            bar.update()
    moments.add_up(lambda share: gather_ranks(share[None]).sum(0))
    logger.info(
        f"fold {trained.fold}: head computed, of {int((moments.mass_C > 0).sum())} of "
        f"{model.num_classes} classes, from the slices of {config.epochs} epochs"
    )
    if is_first_rank():
        state = moments.head(config).state_dict()
        head = {f"{COSINE_HEAD}{name}": value for name, value in state.items()}
        put_weights(checkpoint, head, {"refit": asdict(config)})
    return reader.bad


def _epochs(reader: BatchReader, count: int) -> Iterator[Batch]:
    """The batches of the first epochs; ends the reader's thread whatever comes."""
    with closing(reader):
        for epoch in range(count):
            reader.set_epoch(epoch)
            yield from reader


def main_targets(batch: Batch) -> Tensor:
    """The largest target of each slice, of several equal ones all; zeros elsewhere, [B, C].

    The mean of a rare class would otherwise be that of the recordings in whose background it is.
    """
    if batch.targets is None:
        raise ValueError("batches without targets say nothing about classes")
    known_BC = batch.targets.nan_to_num(0.0)
    return known_BC * (known_BC == known_BC.amax(dim=1, keepdim=True))
