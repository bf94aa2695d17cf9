"""datasets.chunks: the slices of each row's chunk, and their levels once they are joined."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets.chunks import LEFT, PADDINGS, ChunkConfig, Chunks, chunk_shape, join_levels
from storage.audio.filterbank import mel_filterbank
from storage.audio.mel import MelTransform
from storage.encoding import encode, to_unit
from storage.errors import ConfigError
from storage.recipe import Recipe
from tests.fakes import SMALL

TOP_DB = 80.0


def plain_chunk(row, first, end, count, step, padding):
    """Rows of a chunk, None for silence, by a plain loop."""
    fitting = [row for row in range(first, end) if row + (count - 1) * step < end]
    have = count
    while not fitting:
        have -= 1
        fitting = [row for row in range(first, end) if row + (have - 1) * step < end]
    begin = min(row, fitting[-1])
    rows = [begin + number * step for number in range(have)]
    missing = [None] * (count - have)
    if padding == "repeat":
        return [rows[number % have] for number in range(count)]
    return missing + rows if padding == "left" else rows + missing


@given(
    count=st.integers(1, 5),
    step=st.integers(1, 4),
    lengths=st.lists(st.integers(1, 14), min_size=1, max_size=4),
    padding=st.sampled_from(PADDINGS),
)
def test_a_chunk_begins_at_its_row_or_where_it_fits(count, step, lengths, padding):
    chunks = Chunks(count=count, step=step, padding=padding)
    ends = np.cumsum(lengths) + 7 * np.arange(1, 1 + len(lengths))
    starts = ends - lengths
    rows = np.concatenate([np.arange(*bounds) for bounds in zip(starts, ends, strict=True)])
    first, end = np.repeat(starts, lengths), np.repeat(ends, lengths)
    rows_NK, present_NK = chunks.rows(rows, first, end)
    assert rows_NK.dtype == np.int64
    assert (rows_NK >= first[:, None]).all()  # of places without a slice too
    assert (rows_NK < end[:, None]).all()
    for number, row in enumerate(rows):
        expected = plain_chunk(row, first[number], end[number], count, step, padding)
        places = zip(rows_NK[number].tolist(), present_NK[number].tolist(), strict=True)
        assert [place if there else None for place, there in places] == expected


def test_slots_are_those_of_a_recording_of_so_many_slices():
    assert Chunks(count=3, step=2).slots(5) == [0, 1, 2]
    assert Chunks(count=3, step=2).slots(2) == [None, 0, 1]
    assert Chunks(count=3, step=2, padding="right").slots(1) == [0, None, None]
    assert Chunks(count=3, step=2, padding="repeat").slots(2) == [0, 1, 0]


def test_two_slices_of_known_levels_are_joined_relative_to_the_louder():
    """20 and 30 dB below full scale: the quiet slice falls by 10 dB, and ends at the bottom."""
    loud, quiet = [1.0, 0.5, 0.0], [1.0, 0.25, 0.1]  # 0, -40, -80 dB; 0, -60, -72 dB
    unit = torch.tensor([[loud + quiet], [quiet + loud]])
    levels = torch.tensor([[-20.0, -30.0], [-30.0, -20.0]])
    joined = join_levels(unit, levels, TOP_DB)
    expected = [1 - 10 / 80, 0.25 - 10 / 80, 0.0]
    torch.testing.assert_close(joined, torch.tensor([[loud + expected], [expected + loud]]))
    assert torch.equal(joined.amax((1, 2)), torch.ones(2))


def test_joining_leaves_single_slices_equal_levels_and_silence_as_they_are():
    unit = torch.rand(3, 4, 10)
    assert join_levels(unit, torch.full((3, 1), -20.0), TOP_DB) is unit
    assert torch.equal(join_levels(unit, torch.full((3, 2), -20.0), TOP_DB), unit)
    silent = torch.cat([torch.zeros(3, 4, 10), unit], 2)
    levels = torch.tensor([[-torch.inf, -50.0]] * 3)
    assert torch.equal(join_levels(silent, levels, TOP_DB), silent)


def test_chunks_of_a_recipe_are_whole_slices_a_whole_number_of_rows_apart():
    recipe = Recipe()
    assert Chunks.of(ChunkConfig(), recipe) == Chunks()
    assert Chunks.of(ChunkConfig(length_s=5), recipe).count == 1
    ten = Chunks.of(ChunkConfig(length_s=10), recipe)
    assert (ten.count, ten.step, ten.padding) == (2, 2, LEFT)
    assert ten.fitted(replace(recipe, slice_step_s=5.0)) == Chunks(count=2, step=1)
    assert chunk_shape(ChunkConfig(length_s=20), recipe) == (128, 4 * 313)


@pytest.mark.parametrize(
    ("config", "recipe", "message"),
    [
        ({"length_s": 7.0}, {}, r"length_s=7 is no whole number of slices of 5 s"),
        ({"length_s": 2.5}, {}, r"length_s=2.5 is no whole number"),
        (
            {"length_s": 10.0},
            {"slice_step_s": 2.0},
            r"slice_s=5 is no multiple of recipe\.slice_st",
        ),
        ({"length_s": 10.0}, {"slice_step_s": 7.5}, r"without a gap"),
        ({"length_s": -1.0}, {}, r"chunk\.length_s=-1 must be at least 0"),
        ({"padding": "both"}, {}, r"chunk\.padding=both is none of left, right, repeat"),
    ],
)
def test_impossible_chunks_are_refused_with_the_numbers(config, recipe, message):
    with pytest.raises(ConfigError, match=message):
        Chunks.of(ChunkConfig(**config), Recipe(**recipe))


def cells_of(transform, samples):
    db, level = transform.decibels(transform.power(samples))
    return encode(db, top_db=TOP_DB, dtype=np.dtype(np.uint8)), level


@pytest.mark.parametrize("hop", [50, 40])
def test_joined_slices_agree_with_a_long_slice_computed_at_once(hop):
    """Inner frames differ by the rounding of cells alone; those at a seam miss a half window.

    With a hop of 40, half a second is 12.5 hops: the second slice is half a hop off the frames of
    the long one, so only the first one's can be compared.
    """
    recipe = replace(SMALL, hop=hop)
    whole = replace(recipe, slice_s=1.0)
    size, frames = recipe.slice_samples, recipe.num_frames
    generator = np.random.default_rng(0)
    loudness = np.repeat([0.01, 0.3], size) * (1 + np.sin(np.arange(2 * size) / 40))
    sound = (loudness * generator.standard_normal(2 * size)).astype(np.float32)
    short = MelTransform(recipe, mel_filterbank(recipe))
    long = MelTransform(whole, mel_filterbank(whole))
    parts = [cells_of(short, np.ascontiguousarray(part)) for part in np.split(sound, 2)]
    cells = np.concatenate([cells for cells, _ in parts], axis=1)[None]
    levels = torch.tensor([[level for _, level in parts]], dtype=torch.float32)
    joined_db = (join_levels(to_unit(torch.from_numpy(cells)), levels, TOP_DB)[0] - 1) * TOP_DB
    direct_db, level = long.decibels(long.power(sound))
    assert abs(float(levels.max()) - level) < 1.0
    shift = float(levels.max()) - level  # of the maximum, where it is at a seam
    inner = [(slice(1, frames - 2), slice(1, frames - 2))]
    if size % hop == 0:
        inner.append((slice(frames + 1, 2 * frames), slice(frames, 2 * frames - 1)))
    for ours, theirs in inner:
        error = (joined_db[:, ours] + shift - direct_db[:, theirs]).abs()
        assert error.max() < 0.16 + 1e-3  # half a step of 80 / 255 dB
