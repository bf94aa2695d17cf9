"""storage.read.shared.store_tables: mapped tables are those of the Parquet files."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import polars as pl
import pytest

from storage.build.build import BuildConfig, build_store
from storage.errors import DamageError
from storage.format.catalog import Catalog, ListedTables
from storage.format.tables import RECORDINGS, STORED, encode_table, read_table, table_name
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.open import open_objects
from storage.read.shared import derived_files, store_tables
from storage.read.shared.store_tables import OF_SLICES
from storage.source.table import SourceConfig
from storage.store import Store, open_store
from tests.shared_tables import open_plain
from tests.small_store import RECIPE
from tests.sounds import write_source

KINDS = (derived_files.RECORDINGS, derived_files.SLICES, derived_files.CHECKSUMS)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A store of two parts, with duplicates."""
    folder, rng = tmp_path_factory.mktemp("tables"), np.random.default_rng(2)
    for seconds in ((3, 8, 5), (3, 8, 5, 6, 4)):
        source = write_source(folder / "source", seconds, rng)
        add_copy(source)
        config = SourceConfig(root=str(source))
        build_store(config, RECIPE, str(folder / "store"), BuildConfig(workers=1))
    return folder / "store"


def add_copy(source: Path) -> None:
    """Adds a recording with the bytes of another to a source."""
    table = pl.read_csv(source / "train.csv")
    name = "spec0/a_copy_with_a_long_name.ogg"
    audio = source / "train_audio"
    (audio / name).write_bytes((audio / table["filename"][0]).read_bytes())
    copied = table[:1].with_columns(pl.lit(name).alias("filename"))
    pl.concat([table, copied]).write_csv(source / "train.csv")


@pytest.fixture
def built(original, tmp_path) -> str:
    """A copy of the store."""
    return str(copytree(original, tmp_path / "store"))


@pytest.fixture
def remote(tmp_path, monkeypatch) -> RemoteConfig:
    """Settings with a cache folder of the test's own; every store counts as a large one."""
    monkeypatch.setattr(store_tables, "SHARED_FROM", 1)
    return replace(DEFAULT, cache_dir=str(tmp_path / "cache"))


def spoil(folder: Path, suffix: str, way: str) -> Path:
    """Damages the file of a kind, as another file of its name: what is mapped stays whole."""
    (path,) = folder.glob(f"*{suffix}")
    good = path.read_bytes()
    path.unlink()
    middle = len(good) // 2
    flipped = good[:64] + bytes(one ^ 1 for one in good[64:])
    path.write_bytes({"flip": flipped, "cut": good[:middle], "empty": b""}[way])
    return path


def check_equal(shared: Store, plain: Store) -> None:
    """Both have the same recordings, duplicates, slices and checksums."""
    assert shared.recordings().equals(plain.recordings())
    assert shared.recordings().schema == plain.recordings().schema
    assert shared.duplicates().equals(plain.duplicates())
    assert shared.rejects().equals(plain.rejects())
    names = list(OF_SLICES)
    mapped = shared._shared.slices(shared.recordings(), names)
    assert mapped is not None
    assert mapped.equals(plain.slice_index()[names])
    rows = plain.slice_index()["row"].to_numpy()[::-1]
    assert np.array_equal(shared.extents(rows).crc32c, plain.extents(rows).crc32c)
    assert shared.slice_index().equals(plain.slice_index())


def rewrite(url: str, part: int, frame: pl.DataFrame) -> None:
    """Puts other recordings into a part, and notes them."""
    objects = open_objects(url)
    catalog = Catalog.read(objects)
    objects.put(table_name(RECORDINGS, part), encode_table(frame))
    catalog.note_part(objects, part)
    catalog.put(objects)


def test_mapped_tables_are_those_of_the_store(built, remote):
    plain = open_plain(built)
    assert plain._mapped is None
    for _ in range(2):  # made, and found
        shared = open_store(built, remote)
        assert shared._mapped is not None
        check_equal(shared, plain)
    kinds = {path.suffix for path in remote.tables_folder.iterdir()}
    assert kinds == set(KINDS)


def test_recordings_of_a_newer_part_take_the_place_of_older_ones(built, remote):
    first = read_table(open_objects(built), RECORDINGS, 0)
    second = read_table(open_objects(built), RECORDINGS, 1)
    twice = first.filter(pl.col("status") == STORED)[:1].with_columns(
        pl.lit(0, pl.Int32).alias("num_slices"), pl.lit("a new column").alias("more")
    )
    rewrite(built, 1, pl.concat([second, twice], how="diagonal_relaxed"))
    plain = open_plain(built)
    shared = open_store(built, remote)
    assert shared._mapped is not None
    assert "more" in shared.recordings().columns
    check_equal(shared, plain)


def test_recordings_out_of_order_stay_in_memory(built, remote):
    last = read_table(open_objects(built), RECORDINGS, 1)
    rewrite(built, 1, last[::-1])
    shared = open_store(built, remote)
    assert shared._mapped is None
    assert shared.recordings().equals(open_plain(built).recordings())
    assert not list(remote.tables_folder.glob(f"*{derived_files.RECORDINGS}*"))


def test_tables_that_are_replaced_meanwhile_are_not_mapped(built, remote, monkeypatch):
    open_store(built, remote)  # its mapped tables are here
    get_many = ListedTables.get_many

    def replaced(self: ListedTables, names: list[str]) -> list[bytes]:
        self.catalog = Catalog()  # as another one that was read again
        return get_many(self, names)

    monkeypatch.setattr(ListedTables, "get_many", replaced)
    shared = open_store(built, remote)
    assert shared._mapped is None
    assert shared.recordings().equals(open_plain(built).recordings())


@pytest.mark.parametrize("way", ["flip", "cut", "empty"])
def test_damaged_files_are_made_again(built, remote, way):
    plain = open_plain(built)
    check_equal(open_store(built, remote), plain)
    good = {path: path.read_bytes() for path in remote.tables_folder.iterdir()}
    for kind in KINDS:
        spoil(remote.tables_folder, kind, way)
    check_equal(open_store(built, remote), plain)
    assert {path: path.read_bytes() for path in remote.tables_folder.iterdir()} == good


def test_a_table_of_recordings_that_has_changed_is_named_all_the_same(built, remote):
    open_store(built, remote)
    path = Path(built) / table_name(RECORDINGS, 1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamageError, match=path.name):
        open_store(built, remote)


def test_many_at_once_make_the_same_files(built, remote):
    plain = open_plain(built)
    with ThreadPoolExecutor(6) as threads:
        for shared in list(threads.map(lambda _: open_store(built, remote), range(6))):
            assert shared._mapped is not None
            check_equal(shared, plain)
    assert len(list(remote.tables_folder.iterdir())) == len(KINDS)


def test_another_state_of_a_store_is_another_file(built, remote):
    open_store(built, remote)
    last = read_table(open_objects(built), RECORDINGS, 1)
    rewrite(built, 1, last.with_columns(pl.lit("é" * 40).alias("more")))
    check_equal(open_store(built, remote), open_plain(built))
    assert len(list(remote.tables_folder.glob(f"*{derived_files.RECORDINGS}"))) == 2


def test_a_dictionary_of_texts_that_cannot_be_mapped_stays_in_memory(built, remote):
    last = read_table(open_objects(built), RECORDINGS, 1)
    rewrite(built, 1, last.with_columns(pl.lit("a").cast(pl.Categorical).alias("more")))
    assert open_store(built, remote)._mapped is None


def test_columns_of_slices_are_mapped_without_the_index(built, remote):
    plain, shared = open_plain(built), open_store(built, remote)
    found = shared.slice_index(["row", "max_db"])
    assert found.equals(plain.slice_index()["row", "max_db"])
    assert "_numbered_index" not in shared.__dict__
    assert shared.slice_index(["row", "no_such"]).equals(plain.slice_index())
    assert shared.slice_index(["row", "recording_id"]).equals(plain.slice_index())
