"""Raven, Audacity, Kaleidoscope and csv: read back by the columns that their manuals name."""

import csv
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.inference.outputs.small_run import CLASSES, NASTY, small_run, windows, write
from training.inference.outputs.config import DetectConfig
from training.inference.outputs.text import one_line, plain_path, safe_name, short_seconds
from training.inference.predictions import ClassTable

NOTHING = DetectConfig(threshold=1.0)


def read(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    """Rows of a table by a reader with default quoting; of all, no row has more cells or less."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=delimiter, strict=True))
    assert all(None not in row and None not in row.values() for row in rows)
    return rows


def test_raven_tables_have_its_columns(tmp_path: Path) -> None:
    write(tmp_path, "raven")
    rows = read(tmp_path / "raven/marsh/A_20240601_233000.selections.txt", "\t")
    assert rows[0] == {
        "Selection": "1",
        "View": "Spectrogram 1",
        "Channel": "1",
        "Begin Time (s)": "0.000000",
        "End Time (s)": "5.000000",
        "Low Freq (Hz)": "20",
        "High Freq (Hz)": "12000",
        "Begin Path": "/data/marsh/A_20240601_233000.wav",
        "File Offset (s)": "0.000000",
        "Common Name": "Wren",
        "Scientific Name": "Troglodytes troglodytes",
        "Species Code": "wren",
        "Score": "0.9000",
    }
    assert rows[1]["Common Name"] == "'Quoted\" bird"
    assert rows[1]["Species Code"] == 'a,"b" c d é'
    assert [row["Selection"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[4]["End Time (s)"] == "13.500000"


def test_the_table_of_all_recordings_counts_those_without_detections(tmp_path: Path) -> None:
    write(tmp_path, "raven")
    last = read(tmp_path / "all.selections.txt", "\t")[-1]
    assert last["Selection"] == "6"
    assert float(last["Begin Time (s)"]) == 13.5 + 10
    assert float(last["End Time (s)"]) == 13.5 + 10 + 5
    assert float(last["File Offset (s)"]) == 0
    assert last["Begin Path"] == "/data/C.wav"
    assert last["High Freq (Hz)"] == "15000"


def test_programs_get_the_full_path_of_a_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = [
        windows([[0.9, 0, 0]], "marsh/A", path="in/marsh/A.wav"),
        windows([[0.9, 0, 0]], "B", path="s3://bucket/B.wav"),
    ]
    write(tmp_path, "raven", "kaleidoscope", run=run)
    raven = read(tmp_path / "all.selections.txt", "\t")
    assert [row["Begin Path"] for row in raven] == [
        f"{tmp_path}/in/marsh/A.wav",
        "s3://bucket/B.wav",
    ]
    rows = read(tmp_path / "kaleidoscope.csv")
    assert [(row["INDIR"], row["FOLDER"], row["IN FILE"]) for row in rows] == [
        (f"{tmp_path}/in", "marsh", "A.wav"),
        ("s3://bucket", "", "B.wav"),
    ]


def test_audacity_labels_have_the_form_of_a_label_track(tmp_path: Path) -> None:
    write(tmp_path, "audacity")
    text = (tmp_path / "audacity/marsh/A_20240601_233000.txt").read_text(encoding="utf-8")
    lines = [line.split("\t") for line in text.splitlines()]
    assert lines[0] == ["0.000000", "5.000000", "Wren 0.900"]
    assert all(len(cells) == 3 and float(cells[0]) < float(cells[1]) for cells in lines)
    assert (tmp_path / "audacity/marsh/B.txt").read_bytes() == b""


def test_kaleidoscope_has_its_own_column_names(tmp_path: Path) -> None:
    write(tmp_path, "kaleidoscope")
    rows = read(tmp_path / "kaleidoscope.csv")
    assert rows[-2] == {
        "INDIR": "/data",
        "FOLDER": "marsh",
        "IN FILE": "A_20240601_233000.wav",
        "CHANNEL": "0",
        "OFFSET": "10.000000",
        "DURATION": "3.500000",
        "Fmin": "20",
        "Fmean": "6010",
        "Fmax": "12000",
        "DATE": "2024-06-01",
        "TIME": "23:59:52",
        "HOUR": "23",
        "DATE-12": "2024-06-01",
        "TIME-12": "11:59:52",
        "HOUR-12": "11",
        "TOP1MATCH": "Robin",
        "TOP1DIST": "0.3000",
        "MANUAL ID": "",
    }
    assert (rows[-1]["INDIR"], rows[-1]["FOLDER"], rows[-1]["DATE"]) == ("/data", "", "")


def test_kaleidoscope_has_one_start_for_all_rows_of_a_recording(tmp_path: Path) -> None:
    """Also where windows start between two milliseconds, right after midnight."""
    run = [windows([[0.9, 0, 0]] * 9, step_s=7343 / 22_050, date="2024-06-01", time="00:00:00")]
    write(tmp_path, "kaleidoscope", run=run)
    rows = read(tmp_path / "kaleidoscope.csv")
    assert len(rows) == 9
    assert {(row["DATE"], row["TIME"], row["HOUR"]) for row in rows} == {
        ("2024-06-01", "00:00:00", "00")
    }


def test_detections_as_csv_keep_any_text(tmp_path: Path) -> None:
    write(tmp_path, "csv", "presence")
    rows = read(tmp_path / "detections.csv")
    assert len(rows) == 6
    assert (rows[1]["label"], rows[1]["common_name"]) == (NASTY, '"Quoted" bird')
    assert rows[-1]["site"] == 'C, the "big" one'
    assert rows[4]["datetime"] == "2024-06-02T00:00:02.000"
    assert float(rows[0]["score"]) == pytest.approx(0.9)


def test_presence_counts_per_site_day_and_hour(tmp_path: Path) -> None:
    write(tmp_path, "presence", run=[*small_run(), small_run()[0]])
    keys = ("site", "date", "hour", "label", "num_detections", "num_recordings", "max_score")
    rows = [tuple(row[key] for key in keys) for row in read(tmp_path / "presence.csv")]
    assert [row for row in rows if row[3] != NASTY] == [
        ("A", "2024-06-01", "23", "robin", "2", "2", "0.5"),
        ("A", "2024-06-01", "23", "wren", "4", "2", "0.9"),
        ("A", "2024-06-02", "0", "robin", "2", "2", "0.7"),
        ('C, the "big" one', "", "", "robin", "1", "1", "0.95"),
    ]


def test_without_detections_the_files_have_their_headers(tmp_path: Path) -> None:
    formats = ("csv", "raven", "audacity", "kaleidoscope", "presence", "parquet")
    summary = write(tmp_path, *formats, detect=NOTHING)
    assert summary.num_detections == 0
    assert summary.notes[0].startswith("nothing was detected: the highest score is 0.950 (robin in")
    names = ("detections.csv", "all.selections.txt", "kaleidoscope.csv", "presence.csv")
    for name in (*names, "raven/C.selections.txt"):
        assert len((tmp_path / name).read_text(encoding="utf-8").splitlines()) == 1
    assert len(pl.read_parquet(tmp_path / "detections.parquet")) == 0


def test_times_of_ten_hours_do_not_drift(tmp_path: Path) -> None:
    step_s = 0.1
    scores = [[0.0]] * 359_990 + [[0.9]] * 10
    write(
        tmp_path,
        "raven",
        run=[windows(scores, "long", length_s=step_s)],
        classes=ClassTable(labels=("wren",), names={}),
    )
    rows = read(tmp_path / "raven/long.selections.txt", "\t")
    assert [row["Begin Time (s)"] for row in rows] == [f"{35999 + n / 10:.6f}" for n in range(10)]


@given(st.text(min_size=1), st.text())
def test_any_name_stays_in_its_cell(label: str, name: str) -> None:
    line = "\t".join((one_line(label), one_line(name), "1")) + "\n"
    assert len(line.splitlines()) == 1
    [cells] = csv.reader([line], delimiter="\t", strict=True)
    assert len(cells) == 3


@given(st.text())
def test_a_safe_name_is_one_part_of_a_path(name: str) -> None:
    safe = safe_name(name)
    assert safe == Path(safe).name
    assert not safe.startswith(".")
    assert 0 < len(safe.encode()) <= 101


def test_paths_of_recordings_stay_in_the_folder() -> None:
    assert plain_path("marsh/A_1 (2) 鳥") == "marsh/A_1 (2) 鳥"
    assert ".." not in plain_path("../../etc/x").split("/")
    assert plain_path("/a//b").startswith("_")
    assert plain_path("x" * 250) != plain_path("x" * 251)
    assert len(plain_path("x" * 250)) < 120


def test_devices_of_windows_and_short_times() -> None:
    assert safe_name("con") == "_con"
    assert safe_name("../..\\x") == "_.._x"
    assert [short_seconds(value) for value in (0, 10, 2.5, 1 / 3)] == ["0", "10", "2.5", "0.333"]


def test_classes_have_names() -> None:
    assert CLASSES.name("wren", "common_name") == "Wren"
