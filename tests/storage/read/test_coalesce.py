"""storage.read.coalesce: every range is covered, and little is read besides."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.read.coalesce import GAP_BYTES, merge_ranges

RANGES = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 300)), max_size=40)


def merged(ranges: list[tuple[int, int]], gap_bytes: int) -> list[tuple[int, int]]:
    offset, length = np.array(ranges, np.int64).reshape(-1, 2).T
    found = merge_ranges(offset, length, gap_bytes)
    return list(zip(found.begin.tolist(), found.end.tolist(), strict=True))


@given(ranges=RANGES, gap_bytes=st.integers(0, 200))
def test_every_range_lies_in_its_request(ranges: list[tuple[int, int]], gap_bytes: int) -> None:
    offset, length = np.array(ranges, np.int64).reshape(-1, 2).T
    found = merge_ranges(offset, length, gap_bytes)
    assert len(found.request_no) == len(ranges)
    assert (found.begin[found.request_no] <= offset).all()
    assert (found.end[found.request_no] >= offset + length).all()
    assert set(found.request_no.tolist()) == set(range(len(found.begin)))


@given(ranges=RANGES, gap_bytes=st.integers(0, 200))
def test_requests_are_apart_and_waste_is_bounded(
    ranges: list[tuple[int, int]], gap_bytes: int
) -> None:
    requests = merged(ranges, gap_bytes)
    for (_, end), (begin, _) in itertools.pairwise(requests):
        assert begin - end > gap_bytes
    wanted = {byte for offset, length in ranges for byte in range(offset, offset + length)}
    asked = sum(end - begin for begin, end in requests)
    assert asked - len(wanted) <= gap_bytes * max(0, len(ranges) - len(requests))


@given(ranges=RANGES, gap_bytes=st.integers(0, 200), seed=st.integers(0, 99))
def test_the_order_of_asking_changes_nothing(
    ranges: list[tuple[int, int]], gap_bytes: int, seed: int
) -> None:
    shuffled = [ranges[place] for place in np.random.default_rng(seed).permutation(len(ranges))]
    assert merged(shuffled, gap_bytes) == merged(ranges, gap_bytes)


@pytest.mark.parametrize(
    ("ranges", "requests"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([(5, 10)], [(5, 15)], id="one"),
        pytest.param([(0, 10), (10, 10)], [(0, 20)], id="end to end"),
        pytest.param([(0, 10), (18, 2)], [(0, 20)], id="a gap of 8"),
        pytest.param([(0, 10), (19, 2)], [(0, 10), (19, 21)], id="a gap of 9"),
        pytest.param([(0, 50), (10, 5), (57, 3)], [(0, 60)], id="one inside another"),
        pytest.param([(7, 3), (7, 3)], [(7, 10)], id="twice the same"),
    ],
)
def test_the_rule_by_example(
    ranges: list[tuple[int, int]], requests: list[tuple[int, int]]
) -> None:
    assert merged(ranges, 8) == requests


def test_slices_of_one_batch_are_read_with_little_besides() -> None:
    """64 of 1,024 slices of 29 kB: at most 64 KiB between each and the next."""
    rng = np.random.default_rng(0)
    offset = rng.choice(1024, 64, replace=False) * 29_000
    found = merge_ranges(offset, np.full(64, 29_000))
    assert (np.diff(np.stack([found.begin, found.end], axis=1).ravel())[1::2] > GAP_BYTES).all()
    assert len(found.begin) < 64
