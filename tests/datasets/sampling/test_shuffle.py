"""datasets.sampling.shuffle: the order of an epoch, against the plain way of saying it."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.randomness import random_bits, sort_bits
from datasets.sampling import epoch_plan, shuffle
from datasets.sampling.epoch_plan import EpochPlanner, SamplingConfig
from datasets.sampling.shuffle import SampleBits, block_order, global_order, runs_of
from datasets.slice_source import SOURCE_ROWS
from storage.errors import ConfigError
from tests.fakes import fake_recordings, fake_slice_index
from tests.shard_sets import LENGTHS
from tools.benchmarks.harness.process import run_measured


def samples(counts, seed):
    """Bits of the draws of recordings, and a row for each draw."""
    generator = np.random.default_rng(seed)
    planned_no = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    draw_no = np.concatenate([np.arange(count) for count in counts]).astype(np.int32)
    keys = generator.integers(0, 2**64, len(counts), np.uint64)
    bits = SampleBits(keys=keys, planned_no=planned_no, draw_no=draw_no, seed=seed, epoch=4)
    return bits, generator.integers(0, 300, len(draw_no))


SAMPLES = {
    "counts": st.lists(st.integers(0, 9), min_size=1, max_size=40).filter(sum),
    "seed": st.integers(0, 2**32),
    "piece": st.sampled_from([1, 5, 64, 1 << 22]),
}


@given(**SAMPLES)
def test_global_order_sorts_by_bits(counts, seed, piece):
    bits, _ = samples(counts, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "PIECE", piece)
        order = global_order(bits)
    assert np.array_equal(order, np.argsort(bits.of(slice(None)), kind="stable"))


@given(**SAMPLES, block_rows=st.integers(1, 400), together=st.integers(1, 20))
def test_block_order_sorts_by_group_of_blocks_and_then_by_bits(
    counts, seed, piece, block_rows, together
):
    bits, rows = samples(counts, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "PIECE", piece)
        patch.setattr(shuffle, "SHORT_PIECE", piece)
        order = block_order(rows, bits, block_rows=block_rows, blocks_together=together)
    blocks, block_of = np.unique(rows // block_rows, return_inverse=True)
    block_bits = random_bits(blocks.astype(np.uint64), seed=seed, epoch=4, purpose="block")
    place = np.argsort(np.argsort(block_bits, kind="stable"))
    plain = np.lexsort((bits.of(slice(None)), place[block_of] // together))
    assert np.array_equal(order, plain)


@given(values=st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_equal_bits_keep_their_order(values):
    bits = np.array(values, np.uint64)
    assert np.array_equal(sort_bits(bits), np.argsort(bits, kind="stable"))


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=60), least=st.integers(1, 100))
def test_runs_cover_everything_once_and_are_long_enough(sizes, least):
    runs = list(runs_of(np.array(sizes), least))
    assert [first for first, _ in runs] == [0, *(stop for _, stop in runs[:-1])]
    assert runs[-1][1] == len(sizes)
    assert all(sum(sizes[first:stop]) >= least for first, stop in runs[:-1])
    assert all(sum(sizes[first : stop - 1]) < least for first, stop in runs)


@pytest.mark.parametrize("choice", ["random", "all", "first", "energy"])
def test_plans_do_not_depend_on_how_much_is_made_at_a_time(choice, monkeypatch):
    table = fake_recordings(LENGTHS)
    index = fake_slice_index(table)
    config = SamplingConfig(slice_choice=choice, balance="sqrt")
    whole = EpochPlanner(table, config, seed=1, slice_index=index)(2)
    for size in (1, 7, 20):
        monkeypatch.setattr(epoch_plan, "PIECE", size)
        monkeypatch.setattr(shuffle, "PIECE", size)
        plan = EpochPlanner(table, config, seed=1, slice_index=index)(2)
        assert np.array_equal(plan.rows, whole.rows)
        assert np.array_equal(plan.planned_no, whole.planned_no)


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40),
    seed=st.integers(0, 2**16),
    block_rows=st.integers(1, 60),
    together=st.integers(1, 5),
    piece=st.sampled_from([1, 5, 64, 1 << 22]),
    where=st.sampled_from([None, "NOT silent", "primary_label != 'b' AND rating > 1"]),
    mixed=st.booleans(),
)
def test_all_slices_made_in_order_of_their_blocks_are_the_same_plan(
    lengths, seed, block_rows, together, piece, where, mixed
):
    table = fake_recordings(lengths)
    if mixed:  # rows far apart, as those of several sources, and recordings in any order
        far = pl.Series(np.arange(len(table)) % 2 * SOURCE_ROWS)
        table = table.with_columns(pl.col("first_row") + far).sample(fraction=1, shuffle=True)
    index = fake_slice_index(table).sort("row")
    eligible = index["row"].to_numpy()[:: 1 + seed % 2]
    config = SamplingConfig(
        slice_choice="all", order="block", block_rows=block_rows, blocks_together=together
    )
    try:
        config = dataclasses.replace(config, where=where)
        planner = EpochPlanner(table, config, seed=seed, slice_index=index, eligible=eligible)
    except ConfigError:
        return  # nothing is left
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "WHOLE_PIECE", piece)
        patch.setattr(shuffle, "SHORT_PIECE", piece)
        found = planner(3)
        patch.setattr(EpochPlanner, "_is_whole", False)
        plain = planner(3)
    assert found.digest == plain.digest
    assert np.array_equal(found.rows, plain.rows)
    assert np.array_equal(found.planned_no, plain.planned_no)
    assert found.rows.dtype == plain.rows.dtype
    assert found.planned_no.dtype == plain.planned_no.dtype


@pytest.mark.slow
def test_a_plan_of_a_hundred_million_slices_takes_less_than_2_gb():
    num = 100_000_000
    found = run_measured("tools.benchmarks.harness.plan_run", ["blocks", f"{num}", "0"])
    assert found["num_samples"] == num
    assert found["above_imports_bytes"] < 2e9
    assert found["plan_cpu_s"] < 150
