"""Parquet tables: rows and metadata, whole files, equal bytes."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.training.inference.outputs.small_run import ABOUT, NASTY, small_run, windows, write
from training.inference.outputs import tables
from training.inference.outputs.config import FORMATS, DetectConfig
from training.inference.outputs.write import WRITERS
from training.inference.predictions import ClassTable, WindowPredictions

ALL = ("parquet", "csv", "raven", "audacity", "kaleidoscope", "presence")


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_each_format_of_the_config_is_written() -> None:
    assert tuple(WRITERS) == FORMATS


def test_the_wide_table_has_each_window(tmp_path: Path) -> None:
    write(tmp_path, "parquet")
    frame = pl.read_parquet(tmp_path / "predictions.parquet")
    assert frame.columns == [
        *("recording_id", "start_s", "end_s", "silent"),
        *("p_wren", "p_robin", f"p_{NASTY}"),
    ]
    assert frame["recording_id"].to_list() == ["marsh/A_20240601_233000"] * 3 + [
        *["marsh/B"] * 2,
        "C",
    ]
    assert frame["start_s"].to_list() == [0, 5, 10, 0, 5, 0]
    assert frame[f"p_{NASTY}"].null_count() == 1
    np.testing.assert_array_equal(frame["p_wren"][:3], small_run()[0].probabilities[:, 0])


def test_parquet_files_tell_the_model_and_its_parameters(tmp_path: Path) -> None:
    write(tmp_path, "parquet")
    for name in ("predictions.parquet", "detections.parquet"):
        assert json.loads(pl.read_parquet_metadata(tmp_path / name)["melbank"]) == ABOUT


@pytest.mark.parametrize("block_cells", [1, 7, 1 << 20])
def test_blocks_change_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_cells: int
) -> None:
    monkeypatch.setattr(tables, "BLOCK_CELLS", block_cells)
    write(tmp_path, "parquet")
    frame = pl.read_parquet(tmp_path / "predictions.parquet")
    assert frame["p_robin"].round(2).to_list() == pytest.approx([0.2, 0.5, 0.7, 0.1, 0.1, 0.95])
    assert len(pl.read_parquet(tmp_path / "detections.parquet")) == 6


def test_a_square_of_windows_and_classes_is_not_turned(tmp_path: Path) -> None:
    write(tmp_path, "parquet", run=[windows([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9]])])
    frame = pl.read_parquet(tmp_path / "predictions.parquet")
    assert frame["p_wren"].to_list() == pytest.approx([0.1, 0.4, 0.7])


def test_every_run_gives_equal_bytes_in_place_of_the_older_files(tmp_path: Path) -> None:
    write(tmp_path, *ALL)
    first = files(tmp_path)
    assert len(first) == 12
    write(tmp_path, *ALL, detect=DetectConfig(threshold=0.9))
    assert files(tmp_path) != first
    write(tmp_path, *ALL)
    assert files(tmp_path) == first


def test_a_run_that_breaks_off_leaves_the_older_tables(tmp_path: Path) -> None:
    write(tmp_path, "parquet", "csv")
    first = files(tmp_path)

    class Broken(list[WindowPredictions]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield small_run()[0]
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write(tmp_path, "parquet", "csv", run=Broken())
    assert files(tmp_path) == first


def test_what_a_killed_run_left_is_deleted(tmp_path: Path) -> None:
    write(tmp_path, *ALL)
    first = files(tmp_path)
    for name in (".detections.csv.12", "raven/marsh/.B.selections.txt.99", "excerpts/x/.a.wav.7"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".predictions.parquet.parts").mkdir()
    (tmp_path / ".predictions.parquet.parts/000000.parquet").write_bytes(b"half")
    (tmp_path / ".mine.12").write_bytes(b"kept")
    write(tmp_path, *ALL)
    assert files(tmp_path) == {**first, ".mine.12": b"kept"}


def test_a_run_without_recordings_and_one_without_windows(tmp_path: Path) -> None:
    assert write(tmp_path, *ALL, run=[]).num_recordings == 0
    assert pl.read_parquet(tmp_path / "predictions.parquet").shape == (0, 7)
    empty = WindowPredictions(
        recording=small_run()[0].recording,
        start_s=np.zeros(0),
        end_s=np.zeros(0),
        silent=np.zeros(0, bool),
        probabilities=np.zeros((0, 3), np.float32),
    )
    assert write(tmp_path, *ALL, run=[empty]).num_windows == 0


def test_one_class_is_enough(tmp_path: Path) -> None:
    classes = ClassTable(labels=("wren",), names={})
    write(tmp_path, *ALL, run=[windows([[0.9], [0.1]])], classes=classes)
    assert pl.read_parquet(tmp_path / "detections.parquet")["common_name"].to_list() == ["wren"]
