"""Start positions of slices, and the padding of the last one.

The rule: slices start every `slice_step_s`. After the last whole slice a rest of `tail_min_s` or
more gets a slice of its own, filled up by `padding`; a shorter rest is left out. A recording
shorter than one slice always yields one.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from storage.recipe import Recipe


def num_slices(num_samples: int, recipe: Recipe) -> int:
    """Number of slices of a recording of `num_samples` at the recipe's rate."""
    if num_samples <= 0:
        return 0
    size, step = recipe.slice_samples, recipe.step_samples
    if num_samples <= size:
        return 1
    whole = 1 + (num_samples - size) // step
    rest = num_samples - ((whole - 1) * step + size)
    has_tail = rest > 0 and rest >= recipe.tail_min_s * recipe.sample_rate_hz
    return whole + (has_tail and whole * step < num_samples)


class SampleStream:
    """A stream of mono blocks, read by position, forwards.

    Holds one block and what is kept of those before it. A block may be overwritten by the next one,
    as those of a decoder are.
    """

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks = iter(blocks)
        self._held = np.zeros(0, np.float32)  # what is kept of earlier blocks, up to `_first`
        self._block = self._held
        self._first = 0  # position of the block
        self._keep = 0
        self.total = 0  # samples so far; at the end those of the recording

    def drop(self, before: int) -> None:
        """Lets go of the samples before a position."""
        self._keep = before

    def has(self, end: int) -> bool:
        """True where there are samples up to `end`; takes as many blocks as it needs to know."""
        while self.total < end:
            self._hold()
            block = next(self._blocks, None)
            if block is None:
                return False
            self._block = block
            self.total += len(block)
        return True

    def read(self, start: int, size: int) -> np.ndarray:
        """The samples [`start`, `start + size`), float32, fewer at the end of the recording.

        It may be a view: use it before asking for more blocks. Those before `drop` are gone.
        """
        end, first = min(start + size, self.total), self._first
        if start >= first:
            return self._block[start - first : max(start, end) - first]
        if end <= first:
            return self._held[len(self._held) + start - first : len(self._held) + end - first]
        return np.concatenate([self._held[start - first :], self._block[: end - first]])

    def _hold(self) -> None:
        """Copies what is still wanted of the block, which may be overwritten from now on."""
        place = self._keep - self._first
        if place < 0:
            self._held = np.concatenate([self._held[place:], self._block])
        else:
            self._held = self._block[place:].copy()
        self._block = self._held[:0]
        self._first = self.total


def slice_starts(stream: SampleStream, recipe: Recipe) -> Iterator[int]:
    """Yields the start positions of the slices of a recording, as soon as each can be read."""
    size, step = recipe.slice_samples, recipe.step_samples
    slice_no = 0
    while stream.has(slice_no * step + size) or slice_no < num_slices(stream.total, recipe):
        yield slice_no * step
        slice_no += 1


def fill_up(samples: np.ndarray, size: int, padding: str) -> np.ndarray:
    """The samples of a slice, which at the end of a recording are fewer than `size`, padded."""
    if len(samples) == size:
        return samples
    if padding == "wrap":
        return np.resize(samples, size)
    return np.pad(samples, (0, size - len(samples)))


def cut_slices(blocks: Iterable[np.ndarray], recipe: Recipe) -> Iterator[np.ndarray]:
    """Cuts a stream of mono blocks into slices, float32 [S] each, in order.

    Holds about one block and one slice in memory. A yielded slice may be a view: use it before
    asking for the next.
    """
    stream, size = SampleStream(blocks), recipe.slice_samples
    for start in slice_starts(stream, recipe):
        yield fill_up(stream.read(start, size), size, recipe.padding)
        stream.drop(start + recipe.step_samples)
