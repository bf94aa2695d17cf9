"""A filename of a csv finds its file, however either is written; never one of two."""

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from storage.source.matching import match_names

PARTS = st.text("abcäéñ", min_size=1, max_size=4)
FILES = st.lists(st.lists(PARTS, min_size=1, max_size=3), min_size=1, max_size=6)
CHANGES = {
    "composed": lambda name: unicodedata.normalize("NFC", name),
    "decomposed": lambda name: unicodedata.normalize("NFD", name),
    "capitals": str.upper,
    "backslashes": lambda name: name.replace("/", "\\"),
    "folder before": lambda name: f"train_audio/{name}",
    "absolute": lambda name: f"/home/someone/data/train_audio/{name}",
    "of Windows": lambda name: "C:\\data\\" + name.replace("/", "\\"),
    "dot before": lambda name: f"./{name}",
    "blanks": lambda name: name.replace("/", "/ "),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@given(files=FILES, number=st.integers(0))
def test_a_name_written_otherwise_finds_its_file(change, files, number: int) -> None:
    names = ["/".join(parts) + ".ogg" for parts in files]
    assume(len({name.casefold() for name in names}) == len(names))
    wanted = names[number % len(names)]
    written = change(wanted)
    others = [name for name in names if name != wanted]
    assume(not any(f"/{wanted}".endswith(f"/{name}") for name in others))
    found = match_names([written], names)
    assert written in names or found[written].file == wanted


@given(files=FILES, number=st.integers(0))
def test_a_name_without_its_folder_finds_the_only_file(files, number: int) -> None:
    names = sorted({"/".join(parts) + ".ogg" for parts in files})
    end = names[number % len(names)].rpartition("/")[2]
    fitting = [name for name in names if name.rpartition("/")[2] == end]
    found = match_names([f"{end}"], names)
    if end not in names:
        assert found[end].file == (fitting[0] if len(fitting) == 1 else None)


def test_a_file_that_another_row_names_is_no_candidate() -> None:
    assert match_names(["a/x.ogg", "A/X.ogg"], ["a/x.ogg"])["A/X.ogg"].file is None


@pytest.mark.parametrize("name", ["../a.ogg", "b/../a.ogg", "x/../../a.ogg", ""])
def test_no_name_leads_upwards(name: str) -> None:
    found = match_names([name], ["a.ogg", "b/a.ogg"])
    assert all(match.file is None for match in found.values())


def test_the_nearest_name_is_found() -> None:
    found = match_names(["robin/XC1234.wav"], ["robin/XC1234.mp3", "robin/XC9.mp3"])
    assert found["robin/XC1234.wav"].file is None
    assert found["robin/XC1234.wav"].nearest == "robin/XC1234.mp3"
    for name, nearest in (("a.wav", "a.mp3"), ("a", "a.mp3"), ("a.b.wav", "a.b.mp3")):
        found = match_names([f"robin/{name}"], ["robin/a.mp3", "robin/a.b.mp3"])
        assert found[f"robin/{name}"].nearest == f"robin/{nearest}"
    assert match_names(["q.ogg"], ["robin/XC1234.mp3"])["q.ogg"].nearest is None
