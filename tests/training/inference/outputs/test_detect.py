"""Windows become detections by threshold, top k, lists and joining."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import ConfigError
from tests.training.inference.outputs.small_run import CLASSES, NASTY, small_run, windows
from training.inference.outputs.class_lists import read_thresholds
from training.inference.outputs.config import DetectConfig
from training.inference.outputs.detect import SCHEMA, Detector
from training.inference.predictions import ClassTable, WindowPredictions


def found(run: WindowPredictions, **config: object) -> list[tuple[float, float, str, float]]:
    frame = Detector.open(DetectConfig(**config), CLASSES).find(run)  # type: ignore[arg-type]
    assert frame.schema == SCHEMA
    columns = frame.select("start_s", "end_s", "label", pl.col("score").cast(pl.Float64).round(3))
    return columns.rows()


FIRST = small_run()[0]


def csv(tmp_path: Path, text: str) -> str:
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    return str(tmp_path / "list.csv")


def test_detections_are_sorted_and_end_with_the_recording() -> None:
    assert found(FIRST) == [
        (0, 5, "wren", 0.9),
        (0, 5, NASTY, 0.6),
        (5, 10, "wren", 0.8),
        (5, 10, "robin", 0.5),
        (10, 13.5, "robin", 0.7),
    ]


def test_threshold_and_top_k_are_independent() -> None:
    best = [(0, 5, "wren", 0.9), (5, 10, "wren", 0.8), (10, 13.5, "robin", 0.7)]
    assert found(FIRST, top_k=1) == best
    assert found(FIRST, top_k=1, threshold=0.75) == best[:2]
    assert found(FIRST, top_k=1, threshold=None) == best
    assert len(found(FIRST, threshold=None)) == 8  # all but the one that is NaN
    assert len(found(FIRST, threshold=None, top_k=3)) == 8
    assert len(found(FIRST, threshold=0.0)) == 8


def test_top_k_takes_the_first_of_equal_scores_and_only_allowed_classes() -> None:
    equal = windows([[0.6, 0.6, 0.6]])
    assert [row[2] for row in found(equal, top_k=2)] == ["robin", "wren"]  # sorted by label
    assert [row[2] for row in found(equal, top_k=1)] == ["wren"]
    assert [row[2] for row in found(equal, top_k=1, exclude=["wren", "no_call"])] == ["robin"]


def test_thresholds_of_classes_replace_the_general_one(tmp_path: Path) -> None:
    path = csv(tmp_path, "label,threshold,n\nrobin,0.7,3\nwren,,2\n")
    assert [row[2:] for row in found(FIRST, thresholds=path)] == [
        ("wren", 0.9),
        (NASTY, 0.6),
        ("wren", 0.8),
        ("robin", 0.7),
    ]


def test_thresholds_of_tools_calibrate_are_calibrated_where_scores_are(tmp_path: Path) -> None:
    path = tmp_path / "calibration.csv"
    path.write_text("label,a,b,threshold\nwren,2,-1,0.5\nrobin,1,0,0.3\n")
    assert read_thresholds(str(path), CLASSES) == {"wren": 0.5, "robin": 0.3}
    changed = read_thresholds(str(path), CLASSES, calibrated=True)
    assert changed["wren"] == pytest.approx(1 / (1 + np.exp(1)))
    assert changed["robin"] == pytest.approx(0.3)
    path.write_text("label,threshold\nwren,0.5\n")
    assert read_thresholds(str(path), CLASSES, calibrated=True) == {"wren": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,threshold\nrobbin,0.5\n", r"no class robbin; did you mean robin\?"),
        ("label,threshold\nxyz,0.5\n", "no class xyz; there are wren, robin"),
        ("label,threshold\nwren,1.5\n", "wren has 1.5, no number from 0 to 1"),
        ("label,threshold\nwren,high\n", "wren has high"),
        ("label,threshold\nwren,0.5\nwren,0.6\n", "two thresholds for wren"),
        ("label,least\nwren,0.5\n", "needs label and threshold, and has label, least"),
    ],
)
def test_wrong_thresholds_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        found(FIRST, thresholds=csv(tmp_path, text))


def test_a_species_list_filters_by_label_or_scientific_name(tmp_path: Path) -> None:
    path = csv(tmp_path, "scientific_name\nErithacus rubecula\nPica pica\n")
    assert {row[2] for row in found(FIRST, species=path)} == {"robin"}
    assert Detector.open(DetectConfig(species=path), CLASSES).species.num_unknown == 1


def test_a_scientific_name_stands_for_all_of_its_classes(tmp_path: Path) -> None:
    name = {"scientific_name": "Erithacus rubecula"}
    classes = ClassTable(labels=("song", "call", "wren"), names={"song": name, "call": name})
    path = csv(tmp_path, "scientific_name\nErithacus rubecula\n")
    species = Detector.open(DetectConfig(species=path), classes).species
    assert species.of(None).tolist() == [True, True, False]


def test_species_lists_of_sites_hold_there_and_general_ones_everywhere(tmp_path: Path) -> None:
    path = csv(tmp_path, "site,label\nA,wren\nB,robin\n")
    assert {row[2] for row in found(FIRST, species=path)} == {"wren"}
    other = windows([[0.9, 0.9, 0.9]], site="Z")
    assert len(found(other, species=path)) == 3
    path = csv(tmp_path, f'site,label\nA,wren\n,"{NASTY.replace(chr(34), chr(34) * 2)}"\n')
    assert {row[2] for row in found(FIRST, species=path)} <= {"wren", NASTY}
    with pytest.raises(ConfigError, match="names no class of the model"):
        found(FIRST, species=csv(tmp_path, "label\nPica\n"))


def test_presence_at_a_place_filters() -> None:
    config = DetectConfig(latitude=50, longitude=8, week=20, min_presence=0.1)
    presence = {"Erithacus rubecula": 0.5, "wren": 0.05}
    detector = Detector.open(config, CLASSES, presence)
    assert set(detector.find(FIRST)["label"]) == {"robin"}
    with pytest.raises(ConfigError, match="not one of the 3 classes"):
        Detector.open(config, CLASSES, {"wren": 0.05})


def test_neighbouring_detections_are_joined_on_request() -> None:
    gap = windows([[0.9, 0, 0], [0.8, 0, 0], [0, 0, 0], [0.95, 0, 0]])
    assert found(gap, merge_gap_s=0) == [(0, 10, "wren", 0.9), (15, 20, "wren", 0.95)]
    assert found(gap, merge_gap_s=5) == [(0, 20, "wren", 0.95)]
    assert found(gap, merge_gap_s=4.9) == found(gap, merge_gap_s=0)
    assert found(gap, merge_gap_s=0, min_s=6) == [(0, 10, "wren", 0.9)]
    overlapping = windows([[0.9, 0.6, 0]] * 3, step_s=2.5)
    assert found(overlapping, merge_gap_s=0) == [(0, 10, "wren", 0.9), (0, 10, "robin", 0.6)]


def test_ten_hours_in_steps_of_a_tenth_are_joined_without_drift() -> None:
    long = windows([[0.9]] * 360_000, length_s=0.1)
    [(start_s, end_s, _, _)] = found(
        WindowPredictions(
            recording=long.recording,
            start_s=long.start_s,
            end_s=long.end_s,
            silent=long.silent,
            probabilities=np.broadcast_to(long.probabilities, (360_000, 3)),
        ),
        merge_gap_s=0,
        top_k=1,
    )
    assert (start_s, round(end_s, 9)) == (0, 36_000)


def test_absolute_times_go_past_midnight() -> None:
    frame = Detector.open(DetectConfig(), CLASSES).find(FIRST)
    assert str(frame["datetime"][0]) == "2024-06-01 23:59:52"
    assert str(frame["datetime"][-1]) == "2024-06-02 00:00:02"
    assert frame["date"].unique().to_list() == ["2024-06-01"]
    assert Detector.open(DetectConfig(), CLASSES).find(small_run()[2])["datetime"].null_count() == 1


@given(
    st.lists(
        st.lists(st.floats(0, 1, width=32) | st.just(float("nan")), min_size=3, max_size=3),
        min_size=1,
    ),
    st.none() | st.floats(0, 1),
    st.none() | st.integers(1, 4),
    st.none() | st.floats(0, 10),
)
def test_a_class_without_a_score_is_never_detected(
    scores: list[list[float]], threshold: float | None, top_k: int | None, gap_s: float | None
) -> None:
    run = windows(scores)
    rows = found(run, threshold=threshold, top_k=top_k, merge_gap_s=gap_s)
    finite = {CLASSES.labels[c] for c in np.nonzero(~np.isnan(run.probabilities))[1]}
    assert {row[2] for row in rows} <= finite
    assert all(not np.isnan(row[3]) and row[3] >= round((threshold or 0) - 1e-3, 3) for row in rows)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


@pytest.mark.parametrize(
    "config",
    [
        {"threshold": 2},
        {"top_k": 0},
        {"merge_gap_s": -1},
        {"week": 3},
        {"latitude": 3},
        {"latitude": 3, "longitude": 3, "week": 49},
        {"latitude": 93, "longitude": 3},
    ],
)
def test_impossible_settings_are_refused(config: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="detect"):
        DetectConfig(**config)  # type: ignore[arg-type]
