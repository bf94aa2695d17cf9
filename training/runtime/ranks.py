"""Several processes that train together: which is this, what do the others have, wait for them.

With one process all of this is free: it is the first, and has everything.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from storage.errors import MelbankError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


class RankLostError(MelbankError, RuntimeError):
    """Another process of this training has ended before its time."""


def is_joined() -> bool:
    """True where this process is connected to others."""
    if "torch" not in sys.modules:  # importing it takes seconds, and nobody can be connected
        return False
    return bool(_distributed().is_available() and _distributed().is_initialized())


def num_ranks() -> int:
    """Number of connected processes."""
    return _distributed().get_world_size() if is_joined() else 1


def rank() -> int:
    """The number of this process among those that are, or will be, connected."""
    return _distributed().get_rank() if is_joined() else _announced_rank(os.environ)


def _announced_rank(variables: Mapping[str, str]) -> int:
    """Rank by the variables of torchrun, of the process that started this one, or of srun."""
    names = ["LOCAL_RANK"]
    if "TORCHELASTIC_RUN_ID" in variables:
        names.insert(0, "RANK")
    if "SLURM_NTASKS" in variables:
        names.append("SLURM_PROCID")
    return int(next((variables[name] for name in names if name in variables), "0"))


def is_first_rank() -> bool:
    """True on rank 0."""
    return rank() == 0


def first_rank_logger(name: str) -> logging.Logger:
    """Returns the logger of a module, silent on all ranks but the first."""
    logger = logging.getLogger(name)
    logger.addFilter(lambda _: is_first_rank())
    return logger


def wait_for_ranks() -> None:
    """Returns when all processes have come here."""
    if is_joined():
        _distributed().barrier()


def from_first_rank(value: T) -> T:
    """The first process's value, on all of them."""
    if not is_joined():
        return value
    values = [value]
    _distributed().broadcast_object_list(values)
    return values[0]


def of_first_rank(find: Callable[[], T]) -> T:
    """Result of a function that only the first of connected processes calls, on all of them.

    For what is found on a disk, which nodes may see at different times.
    """
    if not is_joined():
        return find()
    return from_first_rank(find() if is_first_rank() else None)  # type: ignore[return-value]


def gather_lists(values: list[T]) -> list[T]:
    """The values of all processes, in the order of the ranks, on each of them."""
    if not is_joined():
        return values
    parts: list[list[T]] = [[] for _ in range(num_ranks())]
    _distributed().all_gather_object(parts, values)
    return [value for part in parts for value in part]


def gather_ranks(tensor: Tensor) -> Tensor:
    """The tensors [n, ...] of all processes one after the other; n may differ, and be 0."""
    if not is_joined():
        return tensor
    import torch

    length = torch.tensor([len(tensor)], device=tensor.device)
    lengths = [torch.empty_like(length) for _ in range(num_ranks())]
    _distributed().all_gather(lengths, length)
    counts = [int(each) for each in lengths]
    padded = tensor.new_zeros((max(counts), *tensor.shape[1:]))
    padded[: len(tensor)] = tensor
    parts = [torch.empty_like(padded) for _ in counts]
    _distributed().all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def _distributed() -> Any:
    """torch.distributed."""
    from torch import distributed

    return distributed
