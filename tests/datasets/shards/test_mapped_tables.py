"""datasets.shards.mapped_tables: a large set is the same from mapped files as from its tables."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.shards import mapped_tables
from datasets.shards.format import INDEX, RECORDINGS
from datasets.shards.shard_set import ShardSet, open_shards
from datasets.shards.writer import write_shards
from storage.errors import DamageError
from storage.objects.client import DEFAULT, RemoteConfig
from tests.fakes import write_fake_source
from tests.shard_sets import LENGTHS, SMALL_SHARDS


@pytest.fixture
def url(tmp_path) -> str:
    source = write_fake_source(tmp_path / "slices.bin", LENGTHS, seed=2)
    write_shards(source, str(tmp_path / "shards"), SMALL_SHARDS)
    return str(tmp_path / "shards")


@pytest.fixture
def remote(tmp_path) -> RemoteConfig:
    return replace(DEFAULT, cache_dir=str(tmp_path / "cache"))


def check_equal(one: ShardSet, other: ShardSet) -> None:
    """Both have the same recordings, slices and extents."""
    assert one.recordings().equals(other.recordings())
    assert one.slice_index().equals(other.slice_index())
    rows = other.slice_index()["row"].to_numpy()[::-1]
    for name in ("object_no", "offset", "length", "crc32c"):
        found, wanted = (getattr(opened.extents(rows), name) for opened in (one, other))
        assert np.array_equal(found, wanted), name
        assert found.dtype == wanted.dtype


def test_a_large_set_is_mapped_and_made_again_where_it_is_damaged(url, remote, monkeypatch):
    plain = open_shards(url, remote)
    assert not remote.tables_folder.exists()
    monkeypatch.setattr(mapped_tables, "SHARED_FROM", 1)
    check_equal(open_shards(url, remote), plain)
    good = {path: path.read_bytes() for path in remote.tables_folder.iterdir()}
    assert len(good) == 2
    with monkeypatch.context() as patched:
        patched.setattr("datasets.shards.shard_set._read_checked", None)  # not called
        check_equal(open_shards(url, remote), plain)
    for path, data in good.items():
        path.unlink()
        path.write_bytes(data[:-200] + bytes(200))
        check_equal(open_shards(url, remote), plain)
        assert {one: one.read_bytes() for one in remote.tables_folder.iterdir()} == good


def test_a_folder_that_cannot_be_written_to_costs_memory_alone(url, remote, monkeypatch, caplog):
    plain = open_shards(url, remote)
    monkeypatch.setattr(mapped_tables, "SHARED_FROM", 1)
    remote.tables_folder.parent.mkdir(parents=True)
    remote.tables_folder.write_bytes(b"")
    check_equal(open_shards(url, remote), plain)
    assert "keeps tables" in caplog.text


@pytest.mark.parametrize("name", [INDEX, RECORDINGS])
def test_a_table_that_has_changed_is_named_though_a_mapped_one_is_there(
    url, remote, monkeypatch, name
):
    monkeypatch.setattr(mapped_tables, "SHARED_FROM", 1)
    open_shards(url, remote)
    path = Path(url) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamageError, match=f"{name} differs from its checksum"):
        open_shards(url, remote)
