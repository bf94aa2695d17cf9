"""Steps from predictions to soft targets, on cases computed by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import ConfigError
from training.inference.pseudo.given import GivenTargets
from training.inference.pseudo.pool import PoolTargets
from training.inference.pseudo.transform import STEPS, apply_steps, parse_transform

VALUES = [[0.8, 0.5, 0.05], [0.3, 0.2, 0.1], [0.05, 0.02, 0.0]]
GIVEN = GivenTargets(  # of the slices of rows 11 and 12
    names=("wren", "owl"),
    rows=np.asarray([11, 12, 99]),
    values=np.asarray([[1.0, 0.0], [0.4, 1.0], [1.0, 1.0]], np.float32),
)


def pool(values: Any = VALUES) -> PoolTargets:
    values_NC = np.asarray(values, np.float32)
    count = len(values_NC)
    return PoolTargets(
        labels=("tit", "wren", "frog")[: values_NC.shape[1]],
        recording_N=np.asarray([0, 0, 1, 1, 2][:count]),
        slice_N=np.asarray([0, 1, 0, 1, 0][:count], np.int32),
        row_N=np.arange(10, 10 + count),
        values_NC=values_NC,
    )


def after(*entries: Any, values: Any = VALUES) -> list[list[float]]:
    found = apply_steps(parse_transform(entries), pool(values), lambda *_: GIVEN)
    assert found.values_NC.dtype == np.float32
    return [[round(float(value), 4) for value in row] for row in found.values_NC]


CASES = [
    ({"threshold_max": 0.3}, [[0.8, 0.5, 0.05], [0.3, 0.2, 0.1]]),
    ({"floor": 0.2}, [[0.8, 0.5, 0], [0.3, 0.2, 0], [0, 0, 0]]),
    ({"power": 2}, [[0.64, 0.25, 0.0025], [0.09, 0.04, 0.01], [0.0025, 0.0004, 0]]),
    ({"clip": 0.5}, [[1, 1, 0.05], [0.3, 0.2, 0.1], [0.05, 0.02, 0]]),
    ({"cap_sum": 0.675}, [[0.4, 0.25, 0.025], [0.3, 0.2, 0.1], [0.05, 0.02, 0]]),
    (  # of its classes, the file has the wren alone; the first slice is not in it
        {"mix": {"file": "x", "alpha": 0.7}},
        [[0.8, 0.5, 0.05], [0.21, 0.44, 0.07], [0.035, 0.134, 0]],
    ),
    ({"hard": {"file": "x"}}, [[0.8, 0.5, 0.05], [0, 1, 0], [0, 0.4, 0]]),
    (  # ranks of the wren over the two slices of the file: 0.75 and 0.25
        {"rank_gate": {"file": "x"}},
        [[0.8, 0.5, 0.05], [0.3, 0.175, 0.1], [0.05, 0.0125, 0]],
    ),
    ({"rank_gate": {"file": "x", "least": 1}}, VALUES),
]


@pytest.mark.parametrize(("step", "expected"), CASES, ids=lambda value: str(value)[:25])
def test_steps_by_hand(step: Any, expected: list[list[float]]) -> None:
    assert after(step) == [[round(value, 4) for value in row] for row in expected]


def test_every_step_has_a_case() -> None:
    assert {name for step, _ in CASES for name in step} == set(STEPS)


def test_order_counts() -> None:
    assert after({"power": 2}, {"clip": 0.5})[0] == [1, 0.25, 0.0025]
    assert after({"clip": 0.5}, {"power": 2})[0] == [1, 1, 0.0025]


def test_threshold_leaves_out_the_lines_of_its_slices() -> None:
    found = apply_steps(parse_transform([{"threshold_max": 0.2}]), pool(), lambda *_: GIVEN)
    assert found.row_N.tolist() == [10, 11]
    assert found.slice_N.tolist() == [0, 1]
    assert found.recording_N.tolist() == [0, 0]


STEP = st.one_of(
    *(st.floats(0.0, 1.0).map(lambda value, name=name: {name: value})
      for name in ("threshold_max", "floor", "clip")),
    *(st.floats(0.1, 4.0).map(lambda value, name=name: {name: value})
      for name in ("power", "cap_sum")),
    st.sampled_from([{name: {"file": "x"}} for name in ("mix", "hard", "rank_gate")]),
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), max_size=5),
    st.lists(STEP, max_size=5),
)
def test_targets_stay_between_0_and_1_and_their_input_as_it_was(
    values: list[list[float]], steps: list[Any]
) -> None:
    given_pool = pool(np.asarray(values, np.float32).reshape(-1, 3))
    before = given_pool.values_NC.copy()
    found = apply_steps(parse_transform(steps), given_pool, lambda *_: GIVEN)
    assert np.array_equal(given_pool.values_NC, before)
    assert ((found.values_NC >= 0) & (found.values_NC <= 1)).all()
    assert len(found.row_N) == len(found.values_NC) == len(found.recording_N)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("power", "power is no step: give a list such as"),
        ({"powr": 2}, r"there is no step powr. Did you mean power\?"),
        ({"power": 0}, "power=0 must be positive"),
        ({"power": "two"}, "power: two must be a number"),
        ({"floor": 2}, "floor=2 must lie between 0 and 1"),
        ({"cap_sum": -1}, "cap_sum=-1 must be positive"),
        ({"mix": 0.7}, "mix takes options by name"),
        ({"mix": {"file": "x", "alhpa": 1}}, r"mix has no option alhpa. Did you mean alpha\?"),
        ({"mix": {"file": "x", "alpha": 2}}, "mix: alpha=2 must lie between 0 and 1"),
        ({"hard": {}}, "hard needs a file"),
        ({"hard": {"file": 3}}, "hard: 3 must be the path of a file"),
        ({"rank_gate": {"file": "x", "least": -1}}, "rank_gate: least=-1 must lie between 0 and 1"),
        ({"power": True}, "power: True must be a number"),
    ],
)
def test_wrong_steps_are_refused_with_a_hint(entry: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"pseudo\.transform: {message}"):
        parse_transform([entry])
