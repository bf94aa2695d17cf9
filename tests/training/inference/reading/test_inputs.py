"""The recordings that inputs name: order, unique names, and what is passed over."""

from pathlib import Path

import pytest

from storage.errors import ConfigError
from training.inference.reading.inputs import list_inputs


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"RIFF")
    return folder


def ids(*given: object, **options: int) -> list[str]:
    return [
        one.recording_id for one in list_inputs([str(one) for one in given], **options).recordings
    ]


def test_names_are_paths_below_the_folder_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.wav", "a/z.ogg", "a/b.mp3", ".hidden.wav", "notes.txt")
    listed = list_inputs([str(tmp_path)])
    assert [one.recording_id for one in listed.recordings] == ["a/b", "a/z", "b"]
    assert "1 .txt" in " ".join(listed.notes)


def test_the_order_of_the_arguments_does_not_matter(tmp_path: Path) -> None:
    one, two = touch(tmp_path / "one", "b.wav", "c.wav"), touch(tmp_path / "two", "a.wav")
    assert list_inputs([str(one), str(two)]) == list_inputs([str(two), str(one)])
    assert ids(one, two) == ["a", "b", "c"]


def test_endings_stay_where_two_files_differ_in_nothing_else(tmp_path: Path) -> None:
    assert ids(touch(tmp_path, "a.wav", "a.mp3", "b.wav")) == ["a.mp3", "a.wav", "b"]


def test_inputs_with_equal_names_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, "x/data/a.wav", "y/data/a.wav", "y/data/b.wav")
    assert ids(tmp_path / "x/data", tmp_path / "y/data") == ["b", "x/data/a", "y/data/a"]
    assert ids(tmp_path / "x/data/a.wav", tmp_path / "y/data/b.wav") == ["a", "b"]


def test_a_file_named_twice_is_predicted_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    assert ids(tmp_path, tmp_path / "a.wav", tmp_path) == ["a", "b"]


@pytest.mark.parametrize("column", ["filename", "file", "path"])
def test_a_csv_names_files_relative_to_itself(column: str, tmp_path: Path) -> None:
    touch(tmp_path, "audio/a.wav", "audio/b.wav")
    (tmp_path / "list.csv").write_text(f"{column},site\naudio/b.wav,1\n{tmp_path}/audio/a.wav,2\n")
    assert ids(tmp_path / "list.csv") == ["a", "audio/b"]


def test_files_of_a_csv_that_are_missing_are_kept_to_be_rejected(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("filename\nnone.wav\n../up.wav\n")
    assert ids(tmp_path / "list.csv") == ["none", "up"]


def test_a_limit_is_spread_over_all(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number}.wav" for number in range(9)))
    assert ids(tmp_path, limit=3) == ["0", "3", "6"]


def test_a_changed_file_has_another_version(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    before = list_inputs([str(tmp_path)])
    (tmp_path / "a.wav").write_bytes(b"RIFF more")
    assert list_inputs([str(tmp_path)]) != before


WRONG = [
    ("nothing", "there is no such file or folder"),
    ("empty", "has no recordings"),
    ("phone", "audio of kinds that are not decoded here: 1 .m4a"),
    ("phone/a.m4a", ".m4a is not decoded here"),
    ("plain.csv", "has no column of file names"),
    ("https://127.0.0.1/folder.d/", "cannot list a folder"),
]


@pytest.mark.parametrize(("name", "message"), WRONG)
def test_inputs_without_recordings_are_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "phone/a.m4a")
    (tmp_path / "plain.csv").write_text("title,year\nx,1\n")
    given = name if "://" in name else str(tmp_path / name)
    with pytest.raises(ConfigError, match=message):
        list_inputs([given])


def test_a_store_is_an_input_alone(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "melbank.json").write_text("{}")
    assert list_inputs([str(tmp_path / "store")]).store == str(tmp_path / "store")
    with pytest.raises(ConfigError, match="predict it alone"):
        list_inputs([str(tmp_path / "store"), str(touch(tmp_path / "more", "a.wav"))])
