"""Tables are held against the catalogue when a store is opened."""

from pathlib import Path

import polars as pl
import pytest

from storage.errors import DamageError
from storage.format.catalog import NAME, Catalog, ListedTables
from storage.format.tables import INDEX, RECORDINGS, encode_table, read_table, table_name
from storage.objects.open import open_objects
from storage.store import open_store
from tests.small_store import build_small_store

TABLE = table_name(RECORDINGS, 0)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return build_small_store(tmp_path, (3, 5))


def relabelled(store: Path) -> bytes:
    """The recordings of a store with another label: a sound table in itself."""
    frame = read_table(open_objects(str(store)), RECORDINGS, 0)
    return encode_table(frame.with_columns(pl.lit("spec9").alias("primary_label")))


def test_a_label_that_was_not_written_is_noticed_at_opening(store: Path) -> None:
    (store / TABLE).write_bytes(relabelled(store))
    with pytest.raises(DamageError, match=f"{TABLE} is not what was written.*tools.verify"):
        open_store(str(store))


def test_a_number_in_the_index_that_was_not_written_is_noticed(store: Path) -> None:
    frame = read_table(open_objects(str(store)), INDEX, 0)
    path = store / table_name(INDEX, 0)
    path.write_bytes(encode_table(frame.with_columns(start_s=pl.col("start_s") + 1)))
    with pytest.raises(DamageError, match="is not what was written"):
        open_store(str(store)).slice_index()


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"{")])
def test_a_store_opens_without_a_catalogue_of_use(store: Path, spoil) -> None:
    spoil(store / NAME)
    assert len(open_store(str(store)).recordings()) == 2


def test_a_table_that_a_build_replaces_meanwhile_is_read_with_the_new_catalogue(
    store: Path,
) -> None:
    objects, new = open_objects(str(store)), relabelled(store)
    tables = ListedTables(objects)
    assert tables.get_many([TABLE]) == [objects.get(TABLE)]
    catalog = Catalog.read(objects)
    catalog.announce(TABLE, new)
    catalog.put(objects)
    assert tables.get_many([TABLE]) == [objects.get(TABLE)]
    objects.put(TABLE, new)
    assert tables.get_many([TABLE]) == [new]
