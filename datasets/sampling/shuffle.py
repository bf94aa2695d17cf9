"""Shuffles an epoch: globally, or in blocks, so that nearby rows are read together.

Both are functions of random bits per sample. They work in pieces where a temporary array would be
as long as the epoch. An epoch of every slice once, in blocks, is made in order of its groups at
once (`shuffle_all`): 100,000,000 samples take the result, 12 bytes each, and 2 bytes a sample.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from datasets.randomness import random_bits, sort_bits
from datasets.slice_source import pieces, ranges
from datasets.threads import map_in_threads

Drawn = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows, recordings, numbers of draws

PIECE = 1 << 22  # samples in memory at once
SHORT_PIECE = 1 << 16  # samples sorted at once: fits the cache
WHOLE_PIECE = 1 << 19  # samples of an epoch of all slices that are brought into groups at once
SPARSE = 8  # numbers for each block that there is, up to which they are looked up in a table


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
    for piece in pieces(len(found), PIECE):
        found[piece] = bits.of(piece)
    return sort_bits(found)


def block_order(
    rows: np.ndarray, bits: SampleBits, *, block_rows: int, blocks_together: int
) -> np.ndarray:
    """Returns a permutation, int64 [n]: random blocks, `blocks_together` of them shuffled as one.

    A block is `block_rows` consecutive rows.
    """
    groups = _Groups.of(_blocks(rows, block_rows), bits, block_rows, blocks_together)
    group = np.empty(len(rows), groups.dtype)
    sizes = np.zeros(groups.number, np.int64)
    for piece in pieces(len(rows), PIECE):
        group[piece] = groups.of_rows(rows[piece])
        sizes += np.bincount(group[piece], minlength=groups.number)
    order = np.argsort(group, kind="stable")
    for begin, end in _runs(sizes):
        index = order[begin:end]
        index = index[sort_bits(bits.of(index))]
        order[begin:end] = index[np.argsort(group[index], kind="stable")]
    return order


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AllSlices:
    """Every candidate of R recordings, each once: begin, count int64 [R] as in `Candidates`.

    keys uint64 [R] are those of the recordings, start_bits uint64 [R] decide where each begins.
    `row_of` gives the rows of places among the candidates.
    """

    begin: np.ndarray
    count: np.ndarray
    keys: np.ndarray
    start_bits: np.ndarray
    row_of: Callable[[np.ndarray], np.ndarray]

    def first_choice(self) -> np.ndarray:
        """Returns the slice of each recording that comes first, int64 [R]."""
        squared = (self.count * self.count).astype(np.uint64)
        return np.asarray((self.start_bits % squared).astype(np.int64) // self.count)

    def draws(self, first: int, stop: int, first_choice: np.ndarray) -> Drawn:
        """Returns rows int64, recordings int32 and numbers of draws int64 of some recordings.

        The rows are those of `slice_choice.choose_evenly` with as many draws as slices: the slices
        of a recording in a circle, from a random one on.
        """
        count = self.count[first:stop]
        planned_no = np.repeat(np.arange(first, stop, dtype=np.int32), count)
        starts = np.cumsum(count) - count
        chosen = np.arange(len(planned_no))
        draw_no = chosen - np.repeat(starts, count)
        chosen = draw_no + np.repeat(first_choice[first:stop], count)
        length = np.repeat(count, count)
        np.subtract(chosen, length, out=chosen, where=chosen >= length)
        chosen += np.repeat(self.begin[first:stop], count)
        return self.row_of(chosen), planned_no, draw_no


def shuffle_all(
    slices: AllSlices, *, seed: int, epoch: int, block_rows: int, blocks_together: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows int64 [n] and recordings int32 [n] of every slice, shuffled in blocks.

    The same as the draws of all recordings, put in their `block_order`, which would keep them
    twice; here each sample is written to the place of its group as soon as it is made.
    """
    num = int(slices.count.sum())
    found, sizes = _blocks_of_all(slices, block_rows)
    draw_type = np.min_scalar_type(int(slices.count.max()))
    bits = SampleBits(
        keys=slices.keys,
        planned_no=np.empty(num, np.int32),
        draw_no=np.empty(num, draw_type),
        seed=seed,
        epoch=epoch,
    )
    groups = _Groups.of(found, bits, block_rows, blocks_together)
    rows, planned_no = np.empty(num, np.int64), bits.planned_no
    group_sizes = np.bincount(groups.of_block, weights=sizes, minlength=groups.number)
    group_sizes = group_sizes.astype(np.int64)
    free = np.cumsum(group_sizes) - group_sizes  # the next place of each group
    first_choice = slices.first_choice()

    def draw(run: tuple[int, int]) -> tuple[Drawn, np.ndarray, np.ndarray]:
        piece = slices.draws(*run, first_choice)
        group = groups.of_rows(piece[0])
        here = np.bincount(group, minlength=groups.number)
        return piece, np.argsort(group, kind="stable"), here

    for piece, order, here in map_in_threads(draw, runs_of(slices.count, WHOLE_PIECE)):
        place = np.repeat(free - np.cumsum(here) + here, here) + np.arange(len(order))
        free += here
        for array, values in zip((rows, planned_no, bits.draw_no), piece, strict=True):
            array[place] = values[order]

    def shuffle(run: tuple[int, int]) -> None:
        part = slice(*run)
        order = _order_within(bits, group_sizes, *run)
        rows[part] = rows[part][order]
        planned_no[part] = planned_no[part][order]

    for _ in map_in_threads(shuffle, _runs(group_sizes)):
        pass
    return rows, planned_no


def runs_of(sizes: np.ndarray, at_least: int) -> Iterator[tuple[int, int]]:
    """Yields (first, stop) of neighbouring entries that sum to about `at_least`."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        before = ends[first - 1] if first else 0
        stop = min(int(np.searchsorted(ends, before + at_least)) + 1, len(sizes))
        yield first, stop
        first = stop


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Groups:
    """Group of each block: blocks int64 [b], increasing, of `block_rows` rows; of_block uint [b].

    `table` has the groups by block number from `blocks[0]` on, where that is no waste.
    """

    blocks: np.ndarray
    of_block: np.ndarray
    block_rows: int
    table: np.ndarray | None

    @classmethod
    def of(cls, blocks: np.ndarray, bits: SampleBits, block_rows: int, together: int) -> "_Groups":
        """Puts blocks into random groups, `together` in each."""
        block_bits = random_bits(
            blocks.astype(np.uint64), seed=bits.seed, epoch=bits.epoch, purpose="block"
        )
        number = -(-len(blocks) // together)
        of_block: np.ndarray
        of_block = np.empty(len(blocks), np.uint16 if number <= 1 << 16 else np.uint32)
        of_block[sort_bits(block_bits)] = np.arange(len(blocks)) // together
        table, width = None, int(blocks[-1] - blocks[0]) + 1
        if width <= SPARSE * len(blocks):
            table = np.zeros(width, of_block.dtype)
            table[blocks - blocks[0]] = of_block
        return cls(blocks=blocks, of_block=of_block, block_rows=block_rows, table=table)

    @property
    def dtype(self) -> "np.dtype[np.unsignedinteger]":
        return self.of_block.dtype

    @property
    def number(self) -> int:
        return int(self.of_block.max()) + 1

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Returns the group of each row, uint [n]."""
        block = rows // self.block_rows
        if self.table is not None:
            return np.asarray(self.table[block - self.blocks[0]])
        return np.asarray(self.of_block[np.searchsorted(self.blocks, block)])


def _order_within(bits: SampleBits, sizes: np.ndarray, begin: int, end: int) -> np.ndarray:
    """Returns the permutation of the samples of complete groups, `sizes` [groups], in order."""
    order = sort_bits(bits.of(slice(begin, end)))
    ends = np.cumsum(sizes)
    first, stop = np.searchsorted(ends, [begin, end - 1], side="right")
    if stop == first:
        return order
    # Sorting is quicker in 16 bits
    numbers = np.arange(stop + 1 - first, dtype=np.min_scalar_type(int(stop - first)))
    group = np.repeat(numbers, sizes[first : stop + 1])
    return np.asarray(order[np.argsort(group[order], kind="stable")])


def _blocks_of_all(slices: AllSlices, block_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers of the blocks of all candidates, increasing, and their sizes."""

    def blocks_in(run: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        part = slice(*run)
        rows = slices.row_of(ranges(slices.begin[part], slices.count[part]))
        changes = np.flatnonzero(np.diff(rows // block_rows, prepend=-1))
        return rows[changes] // block_rows, np.diff(changes, append=len(rows))

    runs = runs_of(slices.count, WHOLE_PIECE)
    blocks, sizes = zip(*map_in_threads(blocks_in, runs), strict=True)
    found, place = np.unique(np.concatenate(blocks), return_inverse=True)
    return found, np.bincount(place, weights=np.concatenate(sizes)).astype(np.int64)


def _blocks(rows: np.ndarray, block_rows: int) -> np.ndarray:
    """Returns the numbers of the blocks of rows, increasing."""
    found = [np.unique(rows[piece] // block_rows) for piece in pieces(len(rows), PIECE)]
    return np.unique(np.concatenate(found))


def _runs(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields (begin, end) of samples in complete groups, small ones together."""
    ends = np.cumsum(sizes)
    for first, stop in runs_of(sizes, SHORT_PIECE):
        yield int(ends[first] - sizes[first]), int(ends[stop - 1])
