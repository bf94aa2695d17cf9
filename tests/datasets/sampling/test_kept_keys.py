"""datasets.sampling.kept_keys: keys from the file are those of the ids, and it is made again."""

import logging

import polars as pl
import pytest

from datasets.randomness import recording_keys
from datasets.sampling import kept_keys
from datasets.sampling.kept_keys import find_keys

TABLE = pl.DataFrame({"recording_id": [f"XC{number}é" for number in range(300)]})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of kept keys; every table counts as a large one."""
    monkeypatch.setenv("MELBANK_CACHE", str(tmp_path))
    monkeypatch.setattr(kept_keys, "KEPT_FROM", 1)
    monkeypatch.setattr(kept_keys, "IDS_AT_ONCE", 70)
    return tmp_path / "keys"


def test_keys_are_those_of_the_ids(folder, monkeypatch):
    wanted = recording_keys(TABLE).tolist()
    assert find_keys(TABLE).tolist() == wanted
    (path,) = folder.iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(kept_keys, "recording_keys", None)  # not called
        assert find_keys(TABLE).tolist() == wanted
    path.write_bytes(path.read_bytes()[:-5])
    assert find_keys(TABLE).tolist() == wanted


def test_other_ids_have_another_file(folder):
    texts = TABLE["recording_id"]
    others = [TABLE[::-1], TABLE[:-1], pl.DataFrame({"recording_id": ["ab", "c"]})]
    for table in [TABLE, *others, pl.DataFrame({"recording_id": ["a", "bc"]})]:
        assert find_keys(table).tolist() == recording_keys(table).tolist()
    assert len([*folder.iterdir()]) == 5
    assert find_keys(pl.DataFrame({"recording_id": texts})).tolist() == find_keys(TABLE).tolist()
    assert len([*folder.iterdir()]) == 5


def test_a_folder_that_cannot_be_written_to_costs_a_warning(folder, caplog):
    folder.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert find_keys(TABLE).tolist() == recording_keys(TABLE).tolist()
    assert "keeps keys of recordings in its own memory" in caplog.text


def test_few_recordings_have_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("MELBANK_CACHE", str(tmp_path))
    assert find_keys(TABLE).tolist() == recording_keys(TABLE).tolist()
    assert not [*tmp_path.iterdir()]
