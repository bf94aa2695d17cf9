"""Adapter of the reader to `torch.utils.data.DataLoader`.

    dataset = BatchDataset(reader)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    for epoch in range(20):
        dataset.set_epoch(epoch)
        for batch in loader:
            ...

The batches are the reader's, in its order, whatever the number of workers: worker w of N reads
the numbers w, w + N, w + 2N, ..., and DataLoader takes from the workers in turn. Batches cross
processes, so this is several times slower than the reader's thread, and every spawned worker holds
another copy of the index. Slices that a worker could not read are in the log, not in `reader.bad`.
Object stores need `multiprocessing_context="spawn"`: their
connections do not survive a fork.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from datasets.batch import Batch
from datasets.loading.reader import BatchReader


class BatchDataset(IterableDataset[Batch]):
    """Distributes the batches of a reader over worker processes, forked or spawned.

    Give it to a DataLoader with `batch_size=None`. Workers see `set_epoch` through shared memory,
    so they may be persistent.
    """

    def __init__(self, reader: BatchReader) -> None:
        super().__init__()
        reader.prepare()  # Polars cannot be used in a forked process
        self._reader = reader
        begin = torch.zeros(2, dtype=torch.int64)  # epoch, batch
        self._begin: Tensor = begin.share_memory_()  # type: ignore[no-untyped-call]  # in torch

    def __len__(self) -> int:
        """Number of batches in a full epoch."""
        return len(self._reader)

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Sets the start of the next iterations; `first_batch` resumes an epoch."""
        self._begin.copy_(torch.tensor([epoch, first_batch]))

    def __iter__(self) -> Iterator[Batch]:
        """Yields this worker's batches; without workers all, read ahead in a thread."""
        epoch, first_batch = self._begin.tolist()
        self._reader.set_epoch(epoch)
        worker = get_worker_info()
        if worker is None:
            return self._reader.read_batches(range(first_batch, len(self)), ahead=True)
        numbers = range(first_batch + worker.id, len(self), worker.num_workers)
        return self._reader.read_batches(numbers, ahead=False)
