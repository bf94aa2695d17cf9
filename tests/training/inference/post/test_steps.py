"""Steps of post-processing: values computed by hand, and properties that all share."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from storage.errors import ConfigError
from tests.training.inference.windows import CLASSES, LABELS, windows_of
from training.inference.post.chain import STEPS, parse_steps, prepare_chain
from training.inference.predictions import ClassTable, WindowPredictions

ONE_CLASS = ClassTable(labels=("robin",), names={})
UNCHANGED: dict[str, dict[str, Any]] = {
    "smooth": {"kernel": [1]},
    "local_max": {"weight": 0},
    "local_mean": {"n": 0},
    "delta_shift": {"weight": 0},
    "file_top": {"weight": 0},
    "file_power": {"a": 0},
    "power": {"a": 1},
    "temperature": {"t": 1},
    "spread": {"weight": 0},
    "site_prior": {"weight": 0},
    "hour_prior": {"weight": 0},
}


def result_of(
    steps: list[Any], windows: WindowPredictions, *others: WindowPredictions
) -> np.ndarray:
    """Returns the probabilities of the first recording of a run after the steps."""
    chain = prepare_chain(parse_steps(steps), [windows, *others], CLASSES)
    changed = chain(windows)
    assert changed.probabilities.dtype == np.float32
    assert changed.recording == windows.recording
    return changed.probabilities


def column(*values: float) -> WindowPredictions:
    """One recording whose classes all have the same values."""
    return windows_of([[value] * len(LABELS) for value in values])


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ({"smooth": {"kernel": [0.2, 0.6, 0.2]}}, [1, 0, 0.5], [0.75, 0.3, 0.375]),
        ({"smooth": {"kernel": [0, 1, 3]}}, [0.4, 0.8, 0], [0.7, 0.2, 0]),
        ({"delta_shift": {"weight": 2 / 3}}, [0, 0.6, 0], [0.1 / (5 / 6), 0.4, 0.1 / (5 / 6)]),
        ({"local_max": {"n": 1, "weight": 0.5}}, [0, 0.8, 0.2, 0], [0.4, 0.8, 0.5, 0.1]),
        ({"local_mean": {"n": 1, "weight": 0.5}}, [0, 0.8, 0.2, 0], [0.2, 17 / 30, 4 / 15, 0.05]),
        ({"file_top": {"k": 2}}, [0.8, 0.4, 0], [0.48, 0.24, 0]),
        ({"file_top": {"k": 9, "weight": 0.5}}, [0.8, 0.4], [0.64, 0.32]),
        ({"file_power": {"a": 0.5}}, [0.64, 0.25], [0.512, 0.2]),
        ({"power": {"a": 2}}, [0.5, 0.1], [0.25, 0.01]),
        ({"temperature": {"t": 0.5}}, [0.5, 0.2, 1], [0.5, 1 / 17, 1]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_values_are_those_of_the_formula(
    step: dict[str, Any], before: list[float], after: list[float]
) -> None:
    np.testing.assert_allclose(result_of([step], column(*before))[:, 0], after, rtol=1e-6)


def test_softmax_keeps_the_sum_of_a_window() -> None:
    before = windows_of([[0.5, 0.25, 0.25, 0], [0, 0, 0, 0]])
    step = {"temperature": {"t": 0.5, "output": "softmax"}}
    after = [[2 / 3, 1 / 6, 1 / 6, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(result_of([step], before), after, rtol=1e-6)


def test_relatives_share_their_probability() -> None:
    before = windows_of([[0.8, 0.2, 0.5, 0.9]])
    by_class = {"by": "class_name", "weight": 0.4}
    mean = result_of([{"spread": by_class}], before)
    np.testing.assert_allclose(mean, [[1, 0.4, 0.78, 1]], rtol=1e-6)
    most = result_of([{"spread": {**by_class, "how": "max", "weight": 0.1}}], before)
    np.testing.assert_allclose(most, [[0.88, 0.28, 0.59, 0.99]], rtol=1e-6)
    assert (result_of([{"spread": {"by": "genus"}}], before) == before.probabilities).all()


def test_a_genus_is_also_read_from_the_scientific_name() -> None:
    names = {name: {"scientific_name": f"Parus {name}"} for name in ("major", "minor")}
    classes = ClassTable(labels=("major", "minor"), names=names)
    windows = windows_of([[0.8, 0.2]])
    chain = prepare_chain(parse_steps([{"spread": {"weight": 0.2}}]), [windows], classes)
    np.testing.assert_allclose(chain(windows).probabilities, [[0.9, 0.3]], rtol=1e-6)


def test_ranks_are_within_a_class_over_the_run() -> None:
    first = windows_of([[0.9, 0, 0, 0], [0.1, 0, 0, 0]])
    second = windows_of([[0.5, 0, 0, 1], [0.5, 0, 0, 0]], "b")
    ranks = result_of(["rank"], first, second)
    np.testing.assert_allclose(ranks[:, 0], [7 / 8, 1 / 8])
    np.testing.assert_allclose(ranks[:, 1], [0.5, 0.5])  # all equal
    np.testing.assert_allclose(result_of(["rank"], second, first)[:, 0], [0.5, 0.5])


def test_a_prior_of_a_site_is_shrunk_by_its_recordings() -> None:
    here, there = (
        windows_of([[p] * 4], name, site=site)
        for name, site, p in [("a", "s", 0.8), ("b", "t", 0.2)]
    )
    nowhere = windows_of([[0.5] * 4], "c")
    after = result_of([{"site_prior": {"weight": 0.5, "k": 3}}], here, there, nowhere)
    odds = 4 * 4 ** (0.5 * 1 / (1 + 3))  # prior 0.8 here, 0.5 overall: log 4 times weight and N
    np.testing.assert_allclose(after, odds / (1 + odds), rtol=1e-6)
    step = {"site_prior": {"weight": 0.5}}
    assert (result_of([step], nowhere, here, there) == nowhere.probabilities).all()


def test_priors_of_hours_come_from_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "hours.csv"
    path.write_text("hour;label;prior\n23;robin;0.2\n00;robin;0.8\n", encoding="utf-8")
    windows = windows_of([[0.5] * 4] * 2, time="23:59:55")
    after = result_of([{"hour_prior": {"weight": 1, "csv": str(path)}}], windows)
    np.testing.assert_allclose(after[:, 0], [0.2, 0.8], atol=1e-6)  # overall 0.5
    np.testing.assert_allclose(after[:, 1:], 0.5)  # of these the csv says nothing
    path.write_text("hour,label,p\n1,robin,0.2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="lacks the column prior"):
        result_of([{"hour_prior": {"csv": str(path)}}], windows)


def test_calibration_may_come_at_any_place(tmp_path: Path) -> None:
    path = tmp_path / "calibration.csv"
    head = "label,a,b,threshold_p90,threshold_p95,threshold_f1,n,n_positive\n"
    rows = "".join(f"{label},2,0,,,0.5,10,5\n" for label in LABELS)
    path.write_text(head + rows, encoding="utf-8")
    steps = [{"power": {"a": 2}}, {"calibrate": {"csv": str(path)}}]
    after = result_of(steps, windows_of([[0.5] * 4]))
    np.testing.assert_allclose(after, 0.1, rtol=1e-5)  # odds 1/3, squared


def test_a_step_may_be_for_some_classes_only() -> None:
    before = windows_of([[0.5] * 4])
    amphibia = {"power": {"a": 2, "only": {"class_name": "Amphibia"}}}
    np.testing.assert_allclose(result_of([amphibia], before), [[0.5, 0.5, 0.25, 0.25]])
    both = {"class_name": "Amphibia", "labels": ["robin", "toad"]}
    after = result_of([{"power": {"a": 2, "only": both}}], before)
    np.testing.assert_allclose(after, [[0.5, 0.5, 0.5, 0.25]])
    ranks = result_of([{"rank": {"only": {"labels": ["wren"]}}}], windows_of([[0.3] * 4]))
    np.testing.assert_allclose(ranks, [[0.3, 0.5, 0.3, 0.3]], rtol=1e-6)


def test_a_pass_over_the_run_sees_the_steps_before() -> None:
    run = [windows_of([[0.9] * 4, [0.4] * 4]), windows_of([[0.5] * 4], "b")]
    chain = prepare_chain(parse_steps([{"file_top": {"k": 1}}, "rank"]), run, CLASSES)
    np.testing.assert_allclose(chain(run[0]).probabilities[:, 0], [5 / 6, 3 / 6])  # .81, .36; .25


PROBABILITIES = arrays(
    np.float32,
    st.tuples(st.integers(0, 6), st.just(4)),
    elements=st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 1.0])),
)


@given(PROBABILITIES, st.integers(0, 4))
def test_identities_change_nothing(p_WC: np.ndarray, masked: int) -> None:
    p_WC[:, masked:] = np.nan
    windows = windows_of(p_WC, site="s", time="07:00:00")
    for name, options in UNCHANGED.items():
        np.testing.assert_array_equal(result_of([{name: options}], windows), p_WC, err_msg=name)


@given(PROBABILITIES, st.integers(0, 4))
def test_probabilities_stay_probabilities(p_WC: np.ndarray, masked: int) -> None:
    p_WC[:, masked:] = np.nan
    windows = windows_of(p_WC, site="s", time="23:59:50")
    other = windows_of(p_WC[::2], "b", site="t")
    for name in set(STEPS) - {"calibrate"}:
        after = result_of([name], windows, other)
        assert after.shape == p_WC.shape
        np.testing.assert_array_equal(np.isnan(after), np.isnan(p_WC), err_msg=name)
        defined = after[~np.isnan(after)]
        assert ((defined >= 0) & (defined <= 1)).all(), name


def test_given_arrays_are_left_as_they_are() -> None:
    p_WC = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    windows = windows_of(p_WC, site="s", time="10:00:00")
    before = windows.probabilities.copy()
    result_of([name for name in STEPS if name != "calibrate"], windows)
    np.testing.assert_array_equal(windows.probabilities, before)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"smoth": {}}], "no step smoth. Did you mean smooth"),
        ([{"smooth": {"kernal": [1]}}], "no option kernal. Did you mean kernel"),
        ([{"smooth": {"kernel": [1, 2]}}], "odd number"),
        ([{"smooth": {"kernel": []}}], "kernel=.* must be numbers"),
        ([{"file_top": {"k": 1.5}}], "k=1.5 must be a whole number"),
        ([{"file_top": {"k": 0}}], r"post: file_top.k=0 must be at least 1"),
        ([{"local_max": {"weight": 2}}], "between 0 and 1"),
        ([{"power": {"a": "big"}}], "a=big must be a number"),
        ([{"power": 2}], "takes options by name"),
        ([{"power": {}, "rank": {}}], "is no step"),
        ([7], "is no step"),
        ([{"spread": {"by": "genos"}}], "no class has an entry.*genus"),
        ([{"rank": {"only": {"labels": ["robbin"]}}}], "Did you mean robin"),
        ([{"rank": {"only": {"clas_name": "Aves"}}}], "no such column.*class_name"),
        ([{"rank": {"only": ["robin"]}}], "only=.* must be a mapping"),
        ([{"temperature": {"output": "softmax", "only": {"labels": "robin"}}}], "leave out"),
        ([{"calibrate": {}}], "needs the file of tools.calibrate"),
        ([{"site_prior": {"csv": "none.csv"}}], "cannot be read"),
    ],
)
def test_mistakes_are_named(steps: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        result_of(steps, column(0.5))
