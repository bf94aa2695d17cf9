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


def cut_slices(blocks: Iterable[np.ndarray], recipe: Recipe) -> Iterator[np.ndarray]:
    """Cuts a stream of mono blocks into slices, float32 [S] each, in order.

    Holds about one block and one slice in memory. A yielded slice may be a view: use it before
    asking for the next.
    """
    size, step = recipe.slice_samples, recipe.step_samples
    held = np.zeros(0, np.float32)  # what came in earlier blocks from `start` on
    start = total = 0
    for block in blocks:
        first, total = total, total + len(block)
        while start + size <= total:
            if start < first:
                yield np.concatenate([held[start - first :], block[: start + size - first]])
            else:
                yield block[start - first : start - first + size]
            start += step
        if start < first:
            held = np.concatenate([held[start - first :], block])
        else:
            held = block[start - first :].copy()
    if start // step < num_slices(total, recipe):
        wraps = recipe.padding == "wrap"
        yield np.resize(held, size) if wraps else np.pad(held, (0, size - len(held)))
