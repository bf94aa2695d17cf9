"""The head of a fold that is computed from its training slices when its last epoch is over.

    bad = refit_head(checkpoint, data, config.refit, Compute(device=device, precision="32-true"))

The slices are those that the first epochs of the training's own plan draw, as they are stored, so
that conditions, pools, balance and targets hold here too. Each is read once and counts as often as
it is drawn, so many epochs cost no more than all slices.
"""

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.batch import Batch
from datasets.loading.quarantine import BadSlice
from storage.encoding import to_unit
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
    loader, targets = data.train_loader, data.targets
    model = trained.model.to(compute.device)
    model.fill_up(loader.batch_size)  # ranks have other last batches than one has
    moments = ClassMoments(num_classes=model.num_classes, sizes=model.embedding_sizes)
    plan, counts = data.drawn(config.epochs)
    reader = data.stored_reader(plan, loader, targets, rank=rank(), world_size=num_ranks())
    with count_bar(compute.bar, len(reader), " batch") as bar, closing(reader):
        for batch in reader:
            if not len(batch.rows):  # this rank has nothing; the others wait for it
                continue
            slices_BMT = to_unit(cells_of(batch, compute.device, trained.recipe.top_db))
            with torch.inference_mode(), autocast(compute.device, compute.precision):
                embeddings = model(slices_BMT).embedding.cpu()
            drawn_B = torch.from_numpy(counts[np.searchsorted(plan.rows, batch.rows.numpy())])
            moments.add(embeddings, main_targets(batch).double() * drawn_B[:, None])
            bar.update()
    moments.add_up(lambda share: gather_ranks(share[None]).sum(0))
    logger.info(
        f"fold {trained.fold}: head computed, of {int((moments.mass_C > 0).sum())} of "
        f"{model.num_classes} classes, from {len(plan):,} slices of {config.epochs} epochs"
    )
    if is_first_rank():
        state = moments.head(config).state_dict()
        head = {f"{COSINE_HEAD}{name}": value for name, value in state.items()}
        put_weights(checkpoint, head, {"refit": asdict(config)})
    return reader.bad


def main_targets(batch: Batch) -> Tensor:
    """The largest target of each slice, of several equal ones all; zeros elsewhere, [B, C].

    The mean of a rare class would otherwise be that of the recordings in whose background it is.
    """
    if batch.targets is None:
        raise ValueError("batches without targets say nothing about classes")
    known_BC = batch.targets.nan_to_num(0.0)
    return known_BC * (known_BC == known_BC.amax(dim=1, keepdim=True))
