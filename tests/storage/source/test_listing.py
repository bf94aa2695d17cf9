"""Folders are listed as people have them: links, hidden files, other kinds, odd names."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.source.listing import list_folder, list_names

AUDIO = st.sampled_from(["a.ogg", "b.WAV", "c.Flac", "d.caf", "e.mp3", "f.oga", "g.AIFF"])
OTHER = st.sampled_from(["a.m4a", "b.AAC", "c.wma", "d.wv"])
REST = st.sampled_from(["a.txt", "b", "c.csv", "ogg", "README.md"])
HIDDEN = st.sampled_from([".a.ogg", "._b.wav", "Thumbs.db", ".DS_Store"])
SYSTEM = st.sampled_from([".hidden", "@eaDir", ".Trashes", "__MACOSX", "lost+found"])
FOLDERS = st.lists(st.sampled_from(["robin", "wren", "deep"]), max_size=3)


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@given(
    folders=FOLDERS,
    audio=st.lists(AUDIO, unique=True),
    other=st.lists(OTHER, unique=True),
    rest=st.lists(REST, unique=True),
    hidden=st.lists(HIDDEN, unique=True),
    system=st.lists(SYSTEM, unique=True),
)
def test_all_files_are_recordings_or_counted(folders, audio, other, rest, hidden, system) -> None:
    folder = "".join(f"{name}/" for name in folders)
    names = [folder + name for name in (*audio, *other, *rest, *hidden)]
    listing = list_names([*names, *(f"{folder}{name}/x.ogg" for name in system)])
    assert listing.audio == sorted(folder + name for name in audio)
    assert set(listing.others) == {folder + name for name in (*other, *rest)}
    assert listing.num_hidden == len(hidden)
    notes = "; ".join(listing.notes())
    assert ("ffmpeg -i" in notes) == bool(other)
    for name in other:
        assert f"1 {Path(name).suffix.lower()}" in notes


def test_a_folder_of_this_machine_is_listed_like_a_bucket(tmp_path: Path) -> None:
    names = ["robin/a.ogg", "robin/b.m4a", "@eaDir/c.ogg", "wren/.d.ogg", "wren/e.txt", "f.wav"]
    write(tmp_path, *names)
    here, there = list_folder(tmp_path), list_names(names)
    assert here == there
    assert list_folder(tmp_path / "missing") == list_names([])


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path, "disk/a.ogg", "data/wren/b.ogg")
    data = tmp_path / "data"
    (data / "robin").symlink_to(tmp_path / "disk")
    (data / "tit").mkdir()
    (data / "tit/c.ogg").symlink_to(tmp_path / "disk/a.ogg")
    (data / "tit/gone.ogg").symlink_to(tmp_path / "nothing.ogg")
    (data / "tit/gone").symlink_to(tmp_path / "nothing")
    (data / "tit/again").symlink_to(data)
    listing = list_folder(data)
    assert listing.audio == ["robin/a.ogg", "tit/c.ogg", "tit/gone.ogg", "wren/b.ogg"]
    assert sorted(listing.problems) == [
        "tit/again is a link to a folder that holds it",
        "tit/gone is a link that leads nowhere",
    ]
    assert "tit/again is a link" in listing.notes()[0]


def test_what_is_no_file_is_named_not_opened(tmp_path: Path) -> None:
    write(tmp_path, "a.ogg", "store/melbank.json", "store/slices.zarr/c/0")
    os.mkfifo(tmp_path / "pipe.wav")
    listing = list_folder(tmp_path)
    assert listing.audio == ["a.ogg"]
    assert sorted(listing.problems) == ["pipe.wav is no regular file", "store is a store"]


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "robin/a.ogg", "wren/b.ogg")
    scandir = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name == "wren":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_folder(tmp_path)
    assert listing.audio == ["robin/a.ogg"]
    assert listing.problems == ["wren cannot be read (Permission denied)"]


def test_names_that_are_no_utf8_are_listed(tmp_path: Path) -> None:
    place = os.fsencode(tmp_path)
    os.mkdir(place + b"/Gr\xfcn")
    for name in (b"Gr\xfcn/a.ogg", b"b\xff.wav", b"c.\xfc", b"d\n.ogg"):
        Path(os.fsdecode(place + b"/" + name)).touch()
    listing = list_folder(tmp_path)
    assert len(listing.audio) == 3
    assert listing.notes()[0].endswith("1 .\\xfc")
