"""Resuming a Lightning checkpoint on another number of ranks.

The reader's own state counts samples over all ranks and fits any number of them. Lightning counts
the batches of one rank; with as many samples per optimizer step on more ranks, those are fewer.
"""

from typing import Any

LOADERS, PROGRESS = "combined_loader", "epoch_loop.batch_progress"  # as Lightning names them


def rescale_batch_progress(checkpoint: dict[str, Any], accumulation: int) -> None:
    """Makes a checkpoint, in place, count the batches of a training that accumulates so many.

    To be called from `LightningModule.on_load_checkpoint`. Does nothing where the number is the
    same, or the checkpoint is not of a training that was fed by a `BatchReader`.
    """
    fit_loop = checkpoint.get("loops", {}).get("fit_loop", {})
    loaders = fit_loop.get("state_dict", {}).get(LOADERS, [])
    states = [state for state in loaders if "global_batch" in state]
    if not states:
        return
    before = states[0]["effective_batch"] // states[0]["global_batch"]
    for counts in (fit_loop[PROGRESS]["total"], fit_loop[PROGRESS]["current"]):
        unfinished = counts["processed"] - counts["completed"]  # 1 when saved at a batch's end
        for name in ("ready", "started", "processed"):
            counts[name] = -(-counts[name] * accumulation // before)
        counts["completed"] = counts["processed"] - unfinished
