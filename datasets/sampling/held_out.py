"""Plan of validation during training: of long recordings an even sample of their slices.

    plan = plan_evenly(recordings, most=8)

Of n slices of a recording the k-th of m = min(n, most) is floor((2 k + 1) n / (2 m)): the slice in
the middle of the k-th of m equal parts. It is the same in each epoch: epochs are comparable.
"""

import numpy as np
import polars as pl

from datasets.sampling.epoch_plan import EpochPlan, plan_all
from datasets.slice_source import ranges


def plan_evenly(recordings: pl.DataFrame, most: int) -> EpochPlan:
    """Plans at most `most` slices of each recording, in the order of the table; all with 0."""
    if most == 0:
        return plan_all(recordings)
    num_slices = recordings["num_slices"].to_numpy()
    taken = np.minimum(num_slices, most)
    number = ranges(np.zeros_like(taken), taken)
    chosen = (2 * number + 1) * np.repeat(num_slices, taken) // (2 * np.repeat(taken, taken))
    return EpochPlan(
        rows=np.repeat(recordings["first_row"].to_numpy(), taken) + chosen,
        planned_no=np.repeat(np.arange(len(recordings), dtype=np.int32), taken),
        recordings=recordings,
        seed=0,
        epoch=0,
        inputs={"recordings": f"at most {most} slices of each of {len(recordings)} recordings"},
    )
