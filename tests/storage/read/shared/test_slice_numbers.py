"""Reading by mapped checksums: equal to the index, made again, never in the way."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.slice_source import ranges
from storage.build.build import BuildConfig, build_store
from storage.errors import DamageError, StoreError
from storage.format.tables import INDEX
from storage.objects.client import DEFAULT, RemoteConfig
from storage.read.extents import find_rows
from storage.read.shared import derived_files, store_tables
from storage.read.shared.column_file import open_columns, write_columns
from storage.read.shared.slice_numbers import SliceNumbers, live_lines
from storage.source.table import SourceConfig
from storage.store import Store, open_store
from tests.full_disk import largest_file
from tests.shared_tables import open_plain
from tests.small_store import RECIPE
from tests.sounds import write_source


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A store of two parts."""
    folder = tmp_path_factory.mktemp("shared")
    for seconds in ((3, 8, 5), (3, 8, 5, 6, 4)):
        source = write_source(folder / "source", seconds, np.random.default_rng(2))
        config = SourceConfig(root=str(source))
        build_store(config, RECIPE, str(folder / "store"), BuildConfig(workers=1))
    assert len(list((folder / "store" / INDEX).iterdir())) == 2
    return folder / "store"


@pytest.fixture
def remote(tmp_path, monkeypatch) -> RemoteConfig:
    """Settings with a cache folder of the test's own; every store counts as a large one."""
    monkeypatch.setattr(store_tables, "SHARED_FROM", 1)
    return replace(DEFAULT, cache_dir=str(tmp_path / "cache"))


def table_file(remote: RemoteConfig) -> Path:
    (found,) = remote.tables_folder.glob(f"*{derived_files.CHECKSUMS}")
    return found


def check_equal(shared: Store, plain: Store) -> None:
    """Both stores give the same extents and cells."""
    rows = plain.slice_index()["row"].to_numpy()[::-1].repeat(2)
    one, other = shared.extents(rows), plain.extents(rows)
    for name in ("object_no", "offset", "length", "crc32c"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
        assert getattr(one, name).dtype == getattr(other, name).dtype
    assert one.objects == other.objects
    assert np.array_equal(shared[:], plain.read(np.sort(plain.slice_index()["row"].to_numpy())))
    assert np.array_equal(shared[-1], plain.slices()[-1])


def test_a_large_store_reads_the_same_without_its_index(built, remote):
    plain = open_plain(str(built))
    plain.slice_index()
    for _ in range(2):  # made, and found
        shared = open_store(str(built), remote)
        check_equal(shared, plain)
        assert shared._shared_checksums is not None
        assert "_numbered_index" not in shared.__dict__
    for row in (-1, int(plain.slice_index()["row"][-1]) + 1, 10**15):
        with pytest.raises(StoreError) as of_shared:
            shared.extents(np.array([row]))
        with pytest.raises(StoreError) as of_plain:
            plain.extents(np.array([row]))
        assert str(of_shared.value) == str(of_plain.value)


@pytest.mark.parametrize("spoil", ["flip", "cut", "longer", "empty", "header"])
def test_a_damaged_file_is_made_again(built, remote, spoil):
    plain = open_plain(str(built))
    open_store(str(built), remote)._shared_checksums  # noqa: B018 - made here
    path = table_file(remote)
    good = bytearray(path.read_bytes())
    spoiled = {
        "flip": good[:70] + bytes([good[70] ^ 1]) + good[71:],
        "cut": good[:-4],
        "longer": good + b"1234",
        "empty": b"",
        "header": bytes(64) + good[64:],
    }[spoil]
    path.write_bytes(spoiled)
    check_equal(open_store(str(built), remote), plain)
    assert path.read_bytes() == good


def test_many_at_once_make_one_file(built, remote):
    stores = [open_store(str(built), remote) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda store: store._shared_checksums, stores))
    assert all(np.array_equal(one, found[0]) for one in found)
    assert len(list(remote.tables_folder.iterdir())) == 2  # with the recordings
    assert table_file(remote)


def test_a_full_disk_and_a_file_in_the_way_cost_memory_alone(built, remote, caplog, monkeypatch):
    # What a command prints goes to a file of pytest's, which is not to grow here
    monkeypatch.setattr(logging.getLogger("storage"), "handlers", [])
    plain = open_plain(str(built))
    with caplog.at_level(logging.WARNING), largest_file(80):
        check_equal(open_store(str(built), remote), plain)
    assert "keeps tables" in caplog.text
    assert not list(remote.tables_folder.iterdir())
    remote.tables_folder.rmdir()
    remote.tables_folder.write_bytes(b"")
    caplog.clear()
    check_equal(open_store(str(built), remote), plain)
    assert "keeps tables" in caplog.text


def test_other_tables_are_another_file_and_a_damaged_table_is_named(built, remote, tmp_path):
    copy = tmp_path / "copy"
    for path in built.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(built)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    check_equal(open_store(str(copy), remote), open_plain(str(copy)))
    assert table_file(remote)  # one, of the original and of its copy alike
    check_equal(open_store(str(built), remote), open_plain(str(built)))
    table_file(remote).unlink()
    index = sorted((copy / INDEX).iterdir())[-1]
    data = bytearray(index.read_bytes())
    data[len(data) // 2] ^= 1
    index.write_bytes(data)
    with pytest.raises(DamageError, match=index.name):
        open_store(str(copy), remote).extents(np.array([0]))
    assert not list(remote.tables_folder.glob(f"*{derived_files.CHECKSUMS}*"))


def test_only_the_last_ones_used_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(derived_files, "KEPT_FILES", 3)
    monkeypatch.setattr(derived_files, "KEPT_BYTES", 0)
    piece = pl.DataFrame({"crc32c": range(5)}, schema=store_tables.CHECKSUMS)
    for number in range(6):
        path = tmp_path / f"{number}{derived_files.CHECKSUMS}"
        assert write_columns(path, piece.schema, 5, [piece[:2], piece[2:]])
    assert len(list(tmp_path.iterdir())) == 3
    found = open_columns(path)
    assert found is not None
    assert found.equals(piece)


@given(
    gaps=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), max_size=20),
    asked=st.lists(st.integers(-3, 150), max_size=30),
)
def test_places_are_those_of_a_search_among_all_rows(gaps, asked):
    count = np.array([length for _, length in gaps], np.int64)
    first = np.cumsum([gap for gap, _ in gaps]) + np.cumsum(count) - count
    known = np.arange(int((first + count)[-1]) if gaps else 0)
    known = known[np.isin(known, ranges(first.astype(np.int64), count))]
    numbers, rows = SliceNumbers(first.astype(np.int64), count), np.array(asked, np.int64)
    places, found = numbers.find(rows)
    assert len(numbers) == len(known)
    assert np.array_equal(found, np.isin(rows, known))
    assert np.array_equal(places[found], find_rows(known, rows[found], ""))
    assert np.array_equal(numbers.row_at(np.arange(len(known))), known)


def test_a_part_with_rows_of_another_recording_or_too_few_is_left_to_the_index():
    index = pl.DataFrame({"row": [4, 5, 6, 9], "recording_id": ["a", "a", "b", "c"]})
    live = pl.DataFrame({"recording_id": ["z", "a", "c"], "first_row": [0, 4, 9]}).with_columns(
        num_slices=pl.Series([2, 2, 1], dtype=pl.Int32)
    )
    found = live_lines(index, live)
    assert found is not None
    assert found.tolist() == [True, True, False, True]
    none = live_lines(index[:0], live)
    assert none is not None
    assert not len(none)
    assert live_lines(index[1:], live.with_columns(num_slices=2)) is None
    renamed = live.with_columns(recording_id=pl.Series(["z", "q", "c"]))
    assert live_lines(index, renamed) is None
    twice = pl.concat([live, live[1:2]]).sort("first_row")
    assert live_lines(index, twice) is None
