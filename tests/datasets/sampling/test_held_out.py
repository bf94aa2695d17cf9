"""Plans of validation during training."""

import numpy as np
import polars as pl
import pytest

from datasets.sampling.epoch_plan import plan_all
from datasets.sampling.held_out import plan_evenly

TABLE = pl.DataFrame({"first_row": [0, 3, 20], "num_slices": [3, 12, 1]})


@pytest.mark.parametrize(
    ("most", "rows"),
    [
        (0, [0, 1, 2, *range(3, 15), 20]),
        (1, [1, 3 + 6, 20]),
        (2, [0, 2, 3 + 3, 3 + 9, 20]),
        (4, [0, 1, 2, 3 + 1, 3 + 4, 3 + 7, 3 + 10, 20]),
        (100, [0, 1, 2, *range(3, 15), 20]),
    ],
)
def test_slices_are_spread_over_each_recording(most, rows):
    assert plan_evenly(TABLE, most).rows.tolist() == rows


@pytest.mark.parametrize("most", range(1, 15))
def test_each_part_of_a_recording_gives_one_slice(most):
    """By the definition: parts of equal length, and the slice that holds the middle of each."""
    plan = plan_evenly(TABLE, most)
    for number, (first, count) in enumerate(TABLE.iter_rows()):
        parts = min(count, most)
        middles = (np.arange(parts) + 0.5) * count / parts
        expected = first + np.floor(middles + 1e-9).astype(int)
        assert plan.rows[plan.planned_no == number].tolist() == expected.tolist()
        assert len(np.unique(expected)) == parts


def test_all_slices_are_the_plan_of_all():
    assert plan_evenly(TABLE, 0).digest == plan_all(TABLE).digest
