"""Blending of branches: weights, classes that a branch lacks, ranks over the run."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from storage.errors import ConfigError
from tests.training.inference.windows import CLASSES
from training.inference.post.blend import METHODS, BlendConfig, Blender, prepare_blend

NAN = np.nan
BRANCHES = ("exp_001", "exp_002")


def blender_of(run: list[np.ndarray], **config: Any) -> Blender:
    """Prepares a blend of two branches."""
    return prepare_blend(BlendConfig(**config), BRANCHES, CLASSES, run)


def test_a_class_that_a_branch_lacks_is_left_out_of_its_mean() -> None:
    p_BWC = np.array([[[0.2, 0.4, NAN, NAN]], [[0.6, NAN, 0.8, NAN]]], np.float32)
    mean = blender_of([], method="mean", weights=[3, 1])(p_BWC)
    np.testing.assert_allclose(mean, [[0.3, 0.4, 0.8, NAN]], rtol=1e-6)
    geometric = blender_of([], method="geometric")(p_BWC)
    np.testing.assert_allclose(geometric, [[np.sqrt(0.12), 0.4, 0.8, NAN]], rtol=1e-6)
    assert mean.dtype == geometric.dtype == np.float32


def test_weights_may_differ_for_some_classes() -> None:
    p_BWC = np.stack([np.zeros((1, 4)), np.ones((1, 4))])
    amphibia = {"only": {"class_name": "Amphibia"}, "weights": [1, 3]}
    toad = {"only": {"labels": ["toad"]}, "weights": [0, 1]}
    blended = blender_of([], weights=[1, 1], class_weights=[amphibia, toad])(p_BWC)
    np.testing.assert_allclose(blended, [[0.5, 0.5, 0.75, 1]])


def test_ranks_make_branches_of_other_scales_alike() -> None:
    first = np.array([[0.1], [0.2], [0.3], [0.4]], np.float32).repeat(4, 1)
    run = [
        np.stack([first[:2], 1e-3 * first[:2] ** 2]),
        np.stack([first[2:], 1e-3 * first[2:] ** 2]),
    ]
    blender = blender_of(run, method="rank")
    np.testing.assert_allclose(blender(run[1])[:, 0], [5 / 8, 7 / 8])


@given(
    arrays(np.float32, (1, 3, 4), elements=st.floats(0, 1, width=32)),
    st.sampled_from(METHODS),
)
def test_a_branch_alone_is_as_it_was_predicted(p_BWC: np.ndarray, method: str) -> None:
    blender = prepare_blend(BlendConfig(method=method), ["exp_001"], CLASSES, [])
    np.testing.assert_array_equal(blender(p_BWC), p_BWC[0])


@given(
    arrays(np.float32, (2, 3, 4), elements=st.floats(0, 1, width=32)),
    st.sampled_from(METHODS),
)
def test_equal_branches_blend_to_a_probability(p_BWC: np.ndarray, method: str) -> None:
    blended = blender_of([p_BWC], method=method)(p_BWC)
    assert ((blended >= 0) & (blended <= 1)).all()
    if method == "mean":
        assert (blended <= p_BWC.max(0) + 1e-6).all()
        assert (blended >= p_BWC.min(0) - 1e-6).all()
    assert blender_of([p_BWC[:, :0]], method=method)(p_BWC[:, :0]).shape == (0, 4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"method": "median"}, "none of mean, geometric, rank"),
        ({"weights": [1]}, "1 weights for 2 entries of predict.from"),
        ({"weights": [1, -1]}, "numbers from 0 on"),
        ({"weights": [0, 0]}, "one must be above 0"),
        ({"class_weights": [{"weights": [1, 2]}]}, "must have two keys"),
        ({"class_weights": [{"only": {"labels": ["tod"]}, "weights": [1, 2]}]}, "mean toad"),
    ],
)
def test_mistakes_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        blender_of([], **config)
