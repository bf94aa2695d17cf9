"""Partners of a batch, from pool sources, added to its samples at their true levels.

    samples = prepare(batch, top_db, config.sampling.inject)    # what a training step begins with

The epoch plan has drawn the partners and the reader has read them; here, on the device, a sample
and its partner become (1 - ratio) * sample + ratio * partner in power (`datasets.augment.power`).
This comes before all augmentations: both are as they were recorded, and whatever acts later (shift,
noise, masks, mixup) acts on the mixture as on a recording. Samples without a partner stay as they
are, to the bit.

The targets of the partner are first scaled down to a sum of `cap_sum`, then united with those of
the sample (the larger of both) or mixed by the ratio. A class unknown (NaN) in one is unknown in
the mixture.

Source: first place of BirdCLEF 2025 and 2026, where every training sample is mixed half and half
with a pseudo-labelled soundscape (kaggle.com/competitions/birdclef-2025/discussion/583577,
birdclef-2026/discussion/704752).

Shapes: B samples, K slices of a sample, M mel bands, T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from datasets.augment.draws import Samples
from datasets.augment.power import Sounds, add_sounds
from datasets.chunks import join_levels
from datasets.injection import UNION, InjectSpec
from storage.encoding import to_unit

if TYPE_CHECKING:
    from torch import Tensor

    from datasets.batch import Batch


def prepare(batch: Batch, top_db: float, inject: Sequence[InjectSpec] = ()) -> Samples:
    """Returns the samples of a batch: cells in [0, 1], chunks joined, partners added.

    Raises ValueError on a batch without targets.
    """
    if batch.targets is None:
        raise ValueError("a batch without targets cannot be learned from or scored")
    background = None
    if batch.background is not None:
        background = joined(batch.background, batch.background_levels, top_db)
    samples = Samples(
        mel_BMT=joined(batch.slices, batch.levels, top_db),
        targets_BC=batch.targets,
        top_db=top_db,
        background_BMT=background,
        level_B=None if batch.levels is None else batch.levels.amax(1),
    )
    return _inject(samples, batch, inject) if inject else samples


def joined(cells_BMT: Tensor, levels_BK: Tensor | None, top_db: float) -> Tensor:
    """Returns cells of a batch, of any encoding, as float [B, M, T] in [0, 1], chunks joined."""
    unit_BMT = to_unit(cells_BMT)
    return unit_BMT if levels_BK is None else join_levels(unit_BMT, levels_BK, top_db)


def _inject(samples: Samples, batch: Batch, inject: Sequence[InjectSpec]) -> Samples:
    partner, levels_BK, pool_B = batch.partner, batch.partner_levels, batch.partner_pool
    targets_BC, level_B = batch.partner_targets, samples.level_B
    if partner is None or pool_B is None:
        return samples
    if levels_BK is None or level_B is None or targets_BC is None:
        raise ValueError("partners are added with levels and targets, which this batch lacks")
    has_B = pool_B >= 0
    ratio_B = _by_pool([spec.ratio for spec in inject], pool_B)
    cells_BMT, new_level_B = add_sounds(
        Sounds(samples.mel_BMT, level_B),
        Sounds(joined(partner, levels_BK, samples.top_db), levels_BK.amax(1)),
        1 - ratio_B,
        samples.top_db,
    )
    return samples._replace(
        mel_BMT=cells_BMT.where(has_B[:, None, None], samples.mel_BMT),
        targets_BC=mixed_targets(samples.targets_BC, targets_BC, pool_B, inject),
        level_B=new_level_B.where(has_B, level_B),
    )


def mixed_targets(
    own_BC: Tensor, partner_BC: Tensor, pool_B: Tensor, inject: Sequence[InjectSpec]
) -> Tensor:
    """Returns the targets of samples and their partners, by the pool of each; -1: no partner."""
    cap_B = _by_pool([spec.cap_sum or float("inf") for spec in inject], pool_B)
    sum_B = partner_BC.nansum(1)
    capped_BC = partner_BC * (cap_B / sum_B.clamp(min=1e-12)).clamp(max=1)[:, None]
    ratio_B1 = _by_pool([spec.ratio for spec in inject], pool_B)[:, None]
    by_ratio_BC = own_BC * (1 - ratio_B1) + capped_BC * ratio_B1
    is_union_B = _by_pool([float(spec.targets == UNION) for spec in inject], pool_B) > 0
    mixed_BC = own_BC.maximum(capped_BC).where(is_union_B[:, None], by_ratio_BC)
    return mixed_BC.where((pool_B >= 0)[:, None], own_BC)


def _by_pool(values: Sequence[float], pool_B: Tensor) -> Tensor:
    """Looks up the value of each sample's pool, float32 [B]; of -1 that of the first."""
    import torch

    table = torch.tensor(values, device=pool_B.device)
    return table[pool_B.clamp(min=0)]
