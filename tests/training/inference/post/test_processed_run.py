"""Runs from raw results to what outputs take, configured as on a command line."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from storage.errors import ConfigError
from tests.training.inference.windows import CLASSES, LABELS, windows_of
from tools.cli.config import load_config
from training.inference.post.config import PostSections
from training.inference.post.processed_run import RawWindows, process_run
from training.inference.predictions import WindowPredictions

BRANCHES = ("exp_001", "exp_002")


@dataclass(frozen=True, kw_only=True)
class Sections(PostSections):
    """Config sections of a command."""


@pytest.fixture
def raw() -> list[WindowPredictions]:
    """Two recordings of two branches."""
    generator = np.random.default_rng(1)
    made = []
    for name, num in (("a", 3), ("b", 2)):
        windows = windows_of(np.zeros((num, 4)), name)
        p_BWC = generator.random((2, num, 4), np.float32)
        p_BWC[1, :, 3] = np.nan
        made.append(
            WindowPredictions(
                recording=windows.recording,
                start_s=windows.start_s,
                end_s=windows.end_s,
                silent=windows.silent,
                probabilities=p_BWC,
            )
        )
    return made


def load(*words: str, text: str = "seed: 0\n", folder: Path) -> Sections:
    (folder / "c.yaml").write_text(text, encoding="utf-8")
    return load_config(Sections, str(folder / "c.yaml"), words)


def test_blend_calibration_and_steps_come_in_this_order(
    raw: list[WindowPredictions], tmp_path: Path
) -> None:
    head = "label,a,b,threshold_p90,threshold_p95,threshold_f1,n,n_positive\n"
    rows = "".join(f"{label},2,0,,,0.5,10,5\n" for label in LABELS)
    (tmp_path / "c.csv").write_text(head + rows, encoding="utf-8")
    words = ["post=[{power: {a: 2}}]", "blend.weights=[1,3]", f"calibration={tmp_path / 'c.csv'}"]
    run = process_run(lambda: raw, BRANCHES, CLASSES, load(*words, folder=tmp_path))
    first = next(iter(run)).probabilities
    p_BWC = raw[0].probabilities
    blended = np.where(np.isnan(p_BWC[1]), p_BWC[0], 0.25 * p_BWC[0] + 0.75 * p_BWC[1])
    calibrated = blended**2 / (blended**2 + (1 - blended) ** 2)
    np.testing.assert_allclose(first, calibrated**2, rtol=1e-4, atol=1e-6)


def test_a_run_can_be_taken_again(raw: list[WindowPredictions], tmp_path: Path) -> None:
    passes = []

    def iterate() -> Iterator[RawWindows]:
        passes.append(len(passes))
        yield from raw

    text = "post:\n- smooth:\n    kernel: [.2, .6, .2]\n- rank\nblend:\n  method: rank\n"
    run = process_run(iterate, BRANCHES, CLASSES, load(text=text, folder=tmp_path))
    assert len(passes) == 2  # for the ranks of the blend, and for those of the step
    once, again = ([windows.probabilities for windows in run] for _ in range(2))
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [windows.recording.recording_id for windows in run] == ["a", "b"]
    assert np.sort(np.concatenate(once)[:, 0]) == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])


def test_one_branch_without_steps_is_as_it_was_predicted(
    raw: list[WindowPredictions], tmp_path: Path
) -> None:
    alone = [windows_of(windows.probabilities[0][None][0], "a") for windows in raw]
    single = [
        WindowPredictions(
            recording=windows.recording,
            start_s=windows.start_s,
            end_s=windows.end_s,
            silent=windows.silent,
            probabilities=windows.probabilities[None],
        )
        for windows in alone
    ]
    run = process_run(lambda: single, ["exp_001"], CLASSES, load(folder=tmp_path))
    for before, after in zip(alone, run, strict=True):
        np.testing.assert_array_equal(before.probabilities, after.probabilities)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("post=[{smoth: {}}]", "no step smoth. Did you mean smooth"),
        ("post=[{smooth: {kernel: 3}}]", "kernel=3 must be numbers"),
        ("post=smooth", "is not a ListConfig|takes a list"),
        ("blend.method=mode", "none of mean, geometric, rank"),
    ],
)
def test_mistakes_end_before_anything_is_predicted(word: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load(word, folder=tmp_path)
