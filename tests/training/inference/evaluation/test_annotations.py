"""Annotations in the forms that people have."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from storage.errors import ConfigError
from storage.store import open_store
from tests.small_store import build_small_store
from training.inference.evaluation.annotations import read_annotations

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"


def rows_of(path: Path, *known: str) -> list[tuple[object, ...]]:
    return read_annotations([str(path)], known).table.rows()


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_segments_of_a_csv(tmp_path: Path) -> None:
    text = (
        "file,start_s,end_s,labels\na.ogg,0,2.5,robin; wren\nb.ogg,0:00:05,00:10,\nc.ogg,,,frog\n"
    )
    assert rows_of(written(tmp_path / "a.csv", text)) == [
        ("a.ogg", 0, 2.5, "robin"),
        ("a.ogg", 0, 2.5, "wren"),
        ("b.ogg", 5, 10, None),
        ("c.ogg", None, None, "frog"),
    ]


def test_columns_may_have_the_names_of_other_programs(tmp_path: Path) -> None:
    text = "Start (s);End (s);Scientific name;File\n1,5;2;Parus major;d\\a.wav\n"
    assert rows_of(written(tmp_path / "a.csv", text)) == [("d\\a.wav", 1.5, 2, "Parus major")]


def test_recordings_of_birdclef(tmp_path: Path) -> None:
    text = "primary_label,secondary_labels,filename\nx,\"['y', 'z']\",x/1.ogg\ny,[],y/2.ogg\n"
    assert rows_of(written(tmp_path / "train.csv", text)) == [
        ("x/1.ogg", None, None, "x"),
        ("x/1.ogg", None, None, "y"),
        ("x/1.ogg", None, None, "z"),
        ("y/2.ogg", None, None, "y"),
    ]


def test_raven_tables_of_one_recording_each(tmp_path: Path) -> None:
    written(
        tmp_path / "s" / "a.Table.1.selections.txt",
        f"{RAVEN}\tSpecies\n"
        "1\tWaveform 1\t1\t1.25\t2.5\t0\t9000\trobin\n"
        "1\tSpectrogram 1\t1\t1.25\t2.5\t0\t9000\trobin\n"
        "2\tSpectrogram 1\t1\t7\t8\t0\t9000\t\n",
    )
    written(tmp_path / "s" / "empty.txt", f"{RAVEN}\n")
    written(tmp_path / "notes.txt", "no table\n")
    assert rows_of(tmp_path) == [
        ("s/a", 1.25, 2.5, "robin"),
        ("s/a", 7, 8, None),
        ("s/empty", None, None, None),
    ]


def test_a_raven_table_of_many_recordings(tmp_path: Path) -> None:
    text = (
        f"{RAVEN}\tBegin Path\tFile Offset (s)\tCommon Name\n"
        "1\tSpectrogram 1\t1\t61\t62.5\t0\t9000\tC:\\data\\b.wav\t1\tRobin\n"
    )
    path = written(tmp_path / "all.selections.txt", text)
    assert rows_of(path) == [("C:\\data\\b.wav", 1, 2.5, "Robin")]


def test_labelled_folders(tmp_path: Path) -> None:
    (tmp_path / "wren").mkdir()
    soundfile.write(tmp_path / "wren" / "a.wav", np.zeros(8000), 8000)
    assert rows_of(tmp_path) == [("wren/a.wav", None, None, "wren")]


@pytest.mark.slow  # a store is built
def test_stores_give_the_labels_of_their_recordings(tmp_path: Path) -> None:
    store = build_small_store(tmp_path, (3, 3, 3))
    recordings = open_store(str(store)).recordings()
    found = read_annotations([str(store)]).table
    assert set(found["file"]) == set(recordings["filename"])
    assert set(found["label"]) >= set(recordings["primary_label"])
    assert found["start_s"].null_count() == len(found)


def test_several_tables_are_joined(tmp_path: Path) -> None:
    head = "file,start_s,end_s,labels\n"
    one, two = (
        written(tmp_path / name, f"{head}{name},0,1,robin\nc,0,1,wren\n") for name in ("a", "b")
    )
    joined = read_annotations([str(one), str(two)])
    assert joined.table["file"].to_list() == ["a", "c", "b"]
    assert joined.where == f"{one}, {two}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,start_s,labels\na,0,robin\n", "needs columns file and labels"),
        ("time,labels\n0,robin\n", "needs columns file and labels"),
        ("file,start_s,end_s,labels\na,zero,1,robin\n", "row 2: 'zero' is no time"),
        ("file,start_s,end_s,labels\na,2,1,robin\n", "row 2 ends before it begins"),
        ("file,start_s,end_s,labels\n", "there is no annotation"),
        (f"{RAVEN}\tCall\n1\tS\t1\t0\t1\t0\t9\tx\n", "name it by evaluate.label_column="),
    ],
)
def test_other_tables_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        rows_of(written(tmp_path / "a.csv", text))


def test_the_column_of_labels_may_be_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", f"{RAVEN}\tCall\n1\tS\t1\t0\t1\t0\t9\tx\n")
    assert read_annotations([str(path)], label_column="Call").table["label"].to_list() == ["x"]
    with pytest.raises(ConfigError, match=r"evaluate\.label_column=Song is no column"):
        read_annotations([str(path)], label_column="Song")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_annotations([str(tmp_path / "none.csv")])
