"""Start positions of slices, and the padding of the last one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.audio.slicing import cut_slices, num_slices
from storage.recipe import Recipe

SMALL = {"sample_rate_hz": 1000, "n_fft": 64, "hop": 32, "fmax_hz": 500.0, "n_mels": 8}
RECIPE = Recipe(slice_s=0.2, slice_step_s=0.1, tail_min_s=0.02, **SMALL)


@given(
    st.lists(st.integers(0, 400), max_size=8),
    st.sampled_from([0.05, 0.1, 0.2, 0.3]),
    st.sampled_from(["wrap", "zeros"]),
)
def test_blocks_do_not_matter_and_the_count_is_as_told(
    lengths: list[int], step_s: float, padding: str
) -> None:
    recipe = Recipe(slice_s=0.2, slice_step_s=step_s, tail_min_s=0.02, padding=padding, **SMALL)
    samples = np.arange(1, sum(lengths) + 1, dtype=np.float32)
    blocks = np.split(samples, np.cumsum(lengths)[:-1]) if lengths else []
    pieces = [piece.copy() for piece in cut_slices(blocks, recipe)]
    assert len(pieces) == num_slices(len(samples), recipe)
    for slice_no, piece in enumerate(pieces):
        start = slice_no * recipe.step_samples
        there = samples[start : start + recipe.slice_samples]
        assert len(there)
        assert np.array_equal(piece[: len(there)], there)
        rest = piece[len(there) :]
        wanted = np.resize(there, len(piece))[len(there) :] if padding == "wrap" else 0 * rest
        assert np.array_equal(rest, wanted)


@given(st.integers(1, 2000))
def test_at_most_the_shortest_tail_is_left_out(num_samples: int) -> None:
    count = num_slices(num_samples, RECIPE)
    covered = (count - 1) * RECIPE.step_samples + RECIPE.slice_samples
    assert num_samples - covered < 20
    assert count == 1 or num_samples > covered - RECIPE.step_samples


EDGES = [(0, 0), (1, 1), (200, 1), (219, 1), (220, 2), (300, 2), (319, 2), (320, 3)]


@pytest.mark.parametrize(("num_samples", "expected"), EDGES)
def test_count_at_the_edges(num_samples: int, expected: int) -> None:
    assert num_slices(num_samples, RECIPE) == expected
