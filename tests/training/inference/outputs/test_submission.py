"""A submission has the rows and columns of its sample, or says why it cannot."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from storage.errors import ConfigError
from storage.recipe import Recipe
from tests.training.inference.outputs.small_run import small_run, windows, write
from training.inference.outputs.config import DetectConfig, OutputConfig
from training.inference.outputs.write import check_outputs
from training.inference.predictions import ClassTable, WindowPredictions

CLASSES = ClassTable(labels=("wren", "robin"), names={})


def run() -> list[WindowPredictions]:
    return [
        windows([[0.25, 0.5], [0.75, 1.0]], "x/A", duration_s=10.0),
        windows([[0.0, 0.125]], "B"),
    ]


def submit(
    tmp_path: Path,
    sample: str | None = None,
    predicted: list[WindowPredictions] | None = None,
    **config: object,
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    path = None
    if sample is not None:
        path = str(tmp_path / "sample.csv")
        Path(path).write_text(sample, encoding="utf-8")
    summary = write(
        tmp_path,
        "submission",
        run=run() if predicted is None else predicted,
        classes=CLASSES,
        sample_submission=path,
        **config,
    )
    notes = tuple(note for note in summary.notes if "submission" in note)
    return pl.read_csv(tmp_path / "submission.csv"), notes


def test_without_a_sample_rows_are_in_the_order_of_the_run(tmp_path: Path) -> None:
    frame, _ = submit(tmp_path)
    assert frame.columns == ["row_id", "wren", "robin"]
    assert frame.rows() == [("A_5", 0.25, 0.5), ("A_10", 0.75, 1.0), ("B_5", 0.0, 0.125)]


def test_a_sample_decides_rows_columns_and_their_order(tmp_path: Path) -> None:
    frame, notes = submit(tmp_path, "row_id,robin,wren\nB_5,0,0\nA_10,0,0\nA_5,0,0\n")
    assert frame.columns == ["row_id", "robin", "wren"]
    assert frame.rows() == [("B_5", 0.125, 0.0), ("A_10", 1.0, 0.75), ("A_5", 0.5, 0.25)]
    assert notes == ()


def test_classes_that_the_sample_lacks_are_left_out_and_said(tmp_path: Path) -> None:
    frame, [note] = submit(tmp_path, "row_id,wren\nB_5,0\nA_10,0\nA_5,0\n")
    assert frame.columns == ["row_id", "wren"]
    assert "1 classes of the model are left out, as the sample lacks them (robin)" in note


def test_missing_classes_and_windows_are_filled_on_request_only(tmp_path: Path) -> None:
    sample = "row_id,wren,owl\nA_5,0,0\nA_10,0,0\nA_15,0,0\nB_5,0,0\nD_5,0,0\nD_10,0,0\n"
    with pytest.raises(ConfigError, match=r"1 classes that the model lacks \(owl\)"):
        submit(tmp_path, sample)
    assert not (tmp_path / "submission.csv").exists()
    frame, notes = submit(tmp_path, sample, fill_missing=0)
    assert frame["owl"].to_list() == [0] * 6
    assert frame["wren"].to_list() == [0.25, 0.75, 0, 0, 0, 0]
    assert any("1 soundscapes were not predicted (D); they are 0" in note for note in notes)
    assert any("1 windows were not predicted (A_15); they are 0" in note for note in notes)


HEADER = "row_id,wren,robin\n"


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (f"{HEADER}A_5,0,0\n", r"no rows for 1 of the soundscapes \(B\)"),
        (
            f"{HEADER}A_5,0,0\nA_7,0,0\nB_5,0,0\nE_5,0,0\n",
            r"1 soundscapes were not predicted \(E\) and 1 windows were not predicted \(A_7\)",
        ),
        ("id,wren\nA_5,0\n", "has no column row_id, but id, wren"),
        (f"{HEADER}A_5,0,0\nA_5,0,0\n", "has A_5 twice"),
        (HEADER, "has no row"),
        ("row_id,owl\nA_5,0\n", "1 classes that the model lacks"),
        ("", "cannot be read"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(tmp_path: Path, sample: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        submit(tmp_path, sample)
    assert not (tmp_path / "submission.csv").exists()


def test_a_sample_without_a_common_class_is_refused_even_if_filled(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no class in common"):
        submit(tmp_path, "row_id,owl\nA_5,0\n", fill_missing=0)


def test_windows_that_the_sample_lacks_are_counted(tmp_path: Path) -> None:
    _, [note] = submit(tmp_path, f"{HEADER}A_5,0,0\nB_5,0,0\n")
    assert "1 windows are left out" in note
    overlapping = [windows([[0.5, 0.5]] * 3, "A", step_s=2.5)]
    frame, _ = submit(tmp_path, f"{HEADER}A_5,0,0\nA_10,0,0\n", overlapping)
    assert frame["row_id"].to_list() == ["A_5", "A_10"]


@pytest.mark.parametrize("sample", [None, f"{HEADER}A_5,0,0\nA_10,0,0\n"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.5, "robin at 5 s of A is 1.5, not in 0 to 1"),
        (-0.5, "robin at 5 s of A is -0.5"),
        (np.nan, "robin at 5 s of A is NaN"),
    ],
)
def test_a_score_that_is_no_probability_is_refused(
    tmp_path: Path, sample: str | None, value: float, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        submit(tmp_path, sample, [windows([[0.5, 0.5], [0.5, value]], "A")])
    assert not (tmp_path / "submission.csv").exists()
    if np.isnan(value):
        frame, _ = submit(
            tmp_path, sample, [windows([[0.5, 0.5], [0.5, value]], "A")], fill_missing=0.25
        )
        assert frame["robin"].to_list() == [0.5, 0.25]


def test_equal_names_in_different_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="x/A and y/A have equal file names"):
        submit(tmp_path, None, [*run(), windows([[0.5, 0.5]], "y/A")])


def test_windows_that_end_at_a_fraction_need_a_sample(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a window of A ends at 7.5 s, and a row_id has whole"):
        submit(tmp_path, None, [windows([[0.5, 0.5]] * 2, "A", step_s=2.5)])


def test_a_time_that_is_whole_but_for_rounding_is_whole(tmp_path: Path) -> None:
    frame, _ = submit(tmp_path, None, [windows([[0.5, 0.5]] * 3, "A", length_s=1 + 1e-9)])
    assert frame["row_id"].to_list() == ["A_1", "A_2", "A_3"]


def test_labels_with_commas_and_quotes_are_columns(tmp_path: Path) -> None:
    write(tmp_path, "submission", run=[small_run()[1]])
    assert pl.read_csv(tmp_path / "submission.csv").shape == (2, 4)


@pytest.mark.parametrize(
    ("recording_ids", "labels", "message"),
    [
        (["x/A", "B"], "wren,robin", None),
        (["x/A", "y/A", "B"], "wren,robin", "x/A and y/A have equal file names"),
        (["A", "B", "Z"], "wren,robin", r"no rows for 1 of the soundscapes \(Z\)"),
        (["A"], "wren,robin", r"1 soundscapes that are not among the 1 recordings \(B\)"),
        (["A", "B"], "wren,owl", r"1 classes that the model lacks \(owl\)"),
    ],
)
def test_what_is_known_before_predicting_is_checked_before(
    tmp_path: Path, recording_ids: list[str], labels: str, message: str | None
) -> None:
    path = tmp_path / "sample.csv"
    path.write_text(f"row_id,{labels}\nA_5,0,0\nB_5,0,0\n", encoding="utf-8")
    config = OutputConfig(formats=["submission"], sample_submission=str(path))
    if message is None:
        check_outputs(config, DetectConfig(), CLASSES, recording_ids, Recipe())
        return
    with pytest.raises(ConfigError, match=message):
        check_outputs(config, DetectConfig(), CLASSES, recording_ids, Recipe())


@pytest.mark.parametrize(("step_s", "is_whole"), [(5.0, True), (1.0, True), (2.5, False)])
def test_without_a_sample_all_windows_have_to_end_at_whole_seconds(
    step_s: float, is_whole: bool
) -> None:
    config = OutputConfig(formats=["submission"])
    windows = Recipe(slice_step_s=step_s)
    if is_whole:
        check_outputs(config, DetectConfig(), CLASSES, ["A"], windows)
        return
    with pytest.raises(ConfigError, match=r"not all windows of 5 s every 2.5 s end at whole sec"):
        check_outputs(config, DetectConfig(), CLASSES, ["A"], windows)
