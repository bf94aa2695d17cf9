"""Evaluation by several processes joined by gloo; started by test_gloo.py, once per rank.

    RANK=0 WORLD_SIZE=3 ... python -m tests.gloo_run FOLDER SIZES BATCH_SIZES

Every batch ends in a collective operation, so a rank with fewer batches than another would hang.
Each rank writes what it has seen and what it was told by all, for each size, to `rank_R.json`.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import plan_all
from tests.fakes import write_fake_source
from training.runtime.ranks import gather_lists, gather_ranks, num_ranks, rank


def evaluate(folder: Path, num_slices: int, batch_size: int) -> dict[str, list[int]]:
    """Rows that this rank was given, rows that all ranks together were given."""
    lengths = np.diff([*range(0, num_slices, 4), num_slices]).tolist()
    path = folder / f"cells_{num_slices}_{rank()}.raw"
    source = write_fake_source(path, lengths or [1], seed=1)
    plan = plan_all(source.recordings().head(len(lengths)))
    reader = BatchReader(
        source,
        lambda _: plan,
        LoaderConfig(batch_size=batch_size),
        targets=None,
        train=False,
        rank=rank(),
        world_size=num_ranks(),
    )
    own = [torch.empty(0, dtype=torch.int64)]
    for batch in reader:
        own.append(batch.rows)
        distributed.all_reduce(torch.tensor(len(batch.rows)))
    rows = torch.cat(own)
    together = gather_ranks(rows).tolist()
    if gather_lists(rows.tolist()) != together:
        raise ValueError("lists and tensors are gathered differently")
    return {"own": rows.tolist(), "all": together, "planned": plan.rows.tolist()}


if __name__ == "__main__":
    distributed.init_process_group("gloo", timeout=timedelta(seconds=30))
    here = Path(sys.argv[1])
    found = {
        f"{size}/{batch_size}": evaluate(here, size, batch_size)
        for size in json.loads(sys.argv[2])
        for batch_size in json.loads(sys.argv[3])
    }
    (here / f"rank_{rank()}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()
