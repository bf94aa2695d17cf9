"""Shuffles an epoch: globally, or in blocks, so that nearby rows are read together.

Both are functions of random bits per sample. They work in pieces where a temporary array would be
as long as the epoch: 100,000,000 samples in blocks take the result and 2 bytes a sample.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from datasets.randomness import random_bits, sort_bits

PIECE = 1 << 22  # samples in memory at once
SHORT_PIECE = 1 << 16  # samples sorted at once: fits the cache


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleBits:
    """Random bits of n samples, made on demand from a recording's key and the draw's number.

    keys uint64 [recordings]; planned_no and draw_no int [n].
    """

    keys: np.ndarray
    planned_no: np.ndarray
    draw_no: np.ndarray
    seed: int
    epoch: int

    def of(self, index: slice | np.ndarray, purpose: str = "order") -> np.ndarray:
        """Returns the bits of some of the samples, uint64; others for each purpose."""
        return random_bits(
            self.keys[self.planned_no[index]],
            seed=self.seed,
            epoch=self.epoch,
            purpose=purpose,
            counter=self.draw_no[index],
        )


def global_order(bits: SampleBits) -> np.ndarray:
    """Returns a permutation of all n samples, int64 [n]."""
    found = np.empty(len(bits.draw_no), np.uint64)
    for piece in pieces(len(found)):
        found[piece] = bits.of(piece)
    return sort_bits(found)


def block_order(
    rows: np.ndarray, bits: SampleBits, *, block_rows: int, blocks_together: int
) -> np.ndarray:
    """Returns a permutation, int64 [n]: random blocks, `blocks_together` of them shuffled as one.

    A block is `block_rows` consecutive rows.
    """
    blocks = _blocks(rows, block_rows)
    block_bits = random_bits(
        blocks.astype(np.uint64), seed=bits.seed, epoch=bits.epoch, purpose="block"
    )
    group_of_block = np.empty(len(blocks), np.int64)
    group_of_block[sort_bits(block_bits)] = np.arange(len(blocks)) // blocks_together
    num_groups = -(-len(blocks) // blocks_together)
    group: np.ndarray
    group = np.empty(len(rows), np.uint16 if num_groups <= 1 << 16 else np.uint32)
    sizes = np.zeros(num_groups, np.int64)
    for piece in pieces(len(rows)):
        group[piece] = group_of_block[np.searchsorted(blocks, rows[piece] // block_rows)]
        sizes += np.bincount(group[piece], minlength=num_groups)
    order = np.argsort(group, kind="stable")
    for begin, end in _runs(sizes):
        index = order[begin:end]
        index = index[sort_bits(bits.of(index))]
        order[begin:end] = index[np.argsort(group[index], kind="stable")]
    return order


def pieces(length: int) -> Iterator[slice]:
    """Yields runs of at most PIECE that make up 0 to `length`."""
    for begin in range(0, length, PIECE):
        yield slice(begin, min(begin + PIECE, length))


def runs_of(sizes: np.ndarray, at_least: int) -> Iterator[tuple[int, int]]:
    """Yields (first, stop) of neighbouring entries that sum to about `at_least`."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        before = ends[first - 1] if first else 0
        stop = min(int(np.searchsorted(ends, before + at_least)) + 1, len(sizes))
        yield first, stop
        first = stop


def _blocks(rows: np.ndarray, block_rows: int) -> np.ndarray:
    """Returns the numbers of the blocks of rows, increasing."""
    found = [np.unique(rows[piece] // block_rows) for piece in pieces(len(rows))]
    return np.unique(np.concatenate(found))


def _runs(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields (begin, end) of samples in complete groups, small ones together."""
    ends = np.cumsum(sizes)
    for first, stop in runs_of(sizes, SHORT_PIECE):
        yield int(ends[first] - sizes[first]), int(ends[stop - 1])
