"""The order of an epoch: over everything, or block by block, so that nearby rows are read together.

Both are functions of random bits per sample. Works piece by piece where a temporary array would be
as long as the epoch: 100,000,000 samples in blocks take the result and 2 bytes a sample.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from datasets.randomness import random_bits, sort_bits

PIECE = 1 << 22  # samples looked at together
SHORT_PIECE = 1 << 16  # and sorted together, which is quickest in the cache


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleBits:
    """Random bits of n samples, made when asked for: of a recording's key and the draw's number.

    keys uint64 [recordings]; planned_no and draw_no int [n].
    """

    keys: np.ndarray
    planned_no: np.ndarray
    draw_no: np.ndarray
    seed: int
    epoch: int

    def of(self, places: slice | np.ndarray) -> np.ndarray:
        """uint64: the bits of some of the samples."""
        return random_bits(
            self.keys[self.planned_no[places]],
            seed=self.seed,
            epoch=self.epoch,
            purpose="order",
            counter=self.draw_no[places],
        )


def global_order(bits: SampleBits) -> np.ndarray:
    """int64 [n]: which sample comes at which place, over the whole epoch."""
    found = np.empty(len(bits.draw_no), np.uint64)
    for piece in pieces(len(found)):
        found[piece] = bits.of(piece)
    return sort_bits(found)


def block_order(
    rows: np.ndarray, bits: SampleBits, *, block_rows: int, blocks_together: int
) -> np.ndarray:
    """int64 [n]: blocks of `block_rows` rows at random, `blocks_together` shuffled as one."""
    blocks = _blocks(rows, block_rows)
    block_bits = random_bits(
        blocks.astype(np.uint64), seed=bits.seed, epoch=bits.epoch, purpose="block"
    )
    group_of_block = np.empty(len(blocks), np.int64)
    group_of_block[sort_bits(block_bits)] = np.arange(len(blocks)) // blocks_together
    num_groups = -(-len(blocks) // blocks_together)
    group = np.empty(len(rows), np.uint16 if num_groups <= 1 << 16 else np.uint32)
    sizes = np.zeros(num_groups, np.int64)
    for piece in pieces(len(rows)):
        group[piece] = group_of_block[np.searchsorted(blocks, rows[piece] // block_rows)]
        sizes += np.bincount(group[piece], minlength=num_groups)
    order = np.argsort(group, kind="stable")
    for begin, end in _runs(sizes):
        places = order[begin:end]
        places = places[sort_bits(bits.of(places))]
        order[begin:end] = places[np.argsort(group[places], kind="stable")]
    return order


def pieces(length: int) -> Iterator[slice]:
    """Runs of at most PIECE that make up 0 to `length`."""
    for begin in range(0, length, PIECE):
        yield slice(begin, min(begin + PIECE, length))


def runs_of(sizes: np.ndarray, at_least: int) -> Iterator[tuple[int, int]]:
    """(first, stop) of neighbouring entries that together have a size of about `at_least`."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        before = ends[first - 1] if first else 0
        stop = min(int(np.searchsorted(ends, before + at_least)) + 1, len(sizes))
        yield first, stop
        first = stop


def _blocks(rows: np.ndarray, block_rows: int) -> np.ndarray:
    """The numbers of the blocks that rows are in, increasing."""
    found = [np.unique(rows[piece] // block_rows) for piece in pieces(len(rows))]
    return np.unique(np.concatenate(found))


def _runs(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """(begin, end) of samples in whole groups, many small ones together."""
    ends = np.cumsum(sizes)
    for first, stop in runs_of(sizes, SHORT_PIECE):
        yield int(ends[first] - sizes[first]), int(ends[stop - 1])
