"""A store keeps the codec that it was made with, and its codec changes nothing but its bytes."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zarr

from storage.build.build import BuildConfig, build_store
from storage.errors import ConfigError, StoreError
from storage.format.chunk_codecs import CODECS, DEFAULT_CODEC, LZ4, ZSTD
from storage.format.manifest import Manifest
from storage.maintenance.repair import repair_store
from storage.maintenance.verify import verify_store
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.sounds import write_source

LENGTHS_S = (6.0, 9.9, 5.0, 12.6)
each_codec = pytest.mark.parametrize("codec", CODECS)


def build(source: Path, store: Path, codec: str | None = None, limit: int | None = None) -> None:
    config = BuildConfig(workers=1, codec=codec)
    build_store(SourceConfig(root=str(source)), Recipe(), str(store), config, limit=limit)


def cells_of(store: Path) -> dict[tuple[str, int], bytes]:
    """Cells by recording and slice number."""
    with open_store(str(store)) as opened:
        index = opened.slice_index()
        cells = opened.slices()
    keys = index.select("recording_id", "slice_no").iter_rows()
    return {key: one.tobytes() for key, one in zip(keys, cells, strict=True)}


def files_of(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("source"), LENGTHS_S, np.random.default_rng(5))


@pytest.fixture(scope="module")
def stores(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    for codec in CODECS:
        build(source, folder / codec, codec)
    return {codec: folder / codec for codec in CODECS}


def test_the_codec_changes_no_value_and_no_table(stores: dict[str, Path]) -> None:
    cells = {codec: cells_of(store) for codec, store in stores.items()}
    assert cells[LZ4] == cells[ZSTD]
    tables = [
        {name: data for name, data in files_of(store).items() if name.endswith(".parquet")}
        for store in stores.values()
    ]
    assert tables[0] == tables[1]
    opened = [open_store(str(store)) for store in stores.values()]
    assert opened[0].recipe == opened[1].recipe
    assert opened[0].store_id == opened[1].store_id
    assert [one.codec for one in opened] == list(CODECS)


@each_codec
def test_zarr_python_alone_reads_it(codec: str, stores: dict[str, Path]) -> None:
    rows = pl.read_parquet(stores[codec] / "index" / "*.parquet")["row"].to_numpy()
    array = zarr.open_array(stores[codec] / "slices.zarr", mode="r")
    with open_store(str(stores[codec])) as opened:
        assert np.array_equal(array.oindex[rows], opened.read(rows))


def test_a_new_store_has_the_default(source: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    build(source, tmp_path / "store")
    assert files_of(tmp_path / "store") == files_of(stores[DEFAULT_CODEC])


@each_codec
def test_a_store_goes_on_with_its_own(
    codec: str, source: Path, stores: dict[str, Path], tmp_path: Path
) -> None:
    build(source, tmp_path / "store", codec, limit=2)
    build(source, tmp_path / "store")
    with open_store(str(tmp_path / "store")) as opened:
        assert opened.codec == codec
    assert cells_of(tmp_path / "store") == cells_of(stores[codec])
    assert not verify_store(str(tmp_path / "store")).findings


@each_codec
def test_another_codec_is_refused_before_anything_changes(
    codec: str, source: Path, stores: dict[str, Path]
) -> None:
    before = files_of(stores[codec])
    (other,) = set(CODECS) - {codec}
    with pytest.raises(ConfigError, match=rf"in {codec}: leave out build\.codec={other}, or give"):
        build(source, stores[codec], other)
    build(source, stores[codec], codec)
    assert files_of(stores[codec]) == before


def test_an_unknown_codec_is_a_wrong_call() -> None:
    with pytest.raises(ConfigError, match=r"build\.codec=brotli is none of lz4, zstd"):
        BuildConfig(codec="brotli")


def test_a_store_of_zstd_is_one_of_before_there_was_a_choice() -> None:
    old = Manifest(store_id="7", recipe=Recipe(), part_slices=64)
    document = json.loads(old.encode())
    assert document["version"] == 1
    assert list(document) == [
        *("format", "version", "store_id", "array", "slices_per_zarr_shard", "part_slices"),
        *("recipe", "recipe_hash"),
    ]
    assert Manifest.from_dict(document, "it") == old
    assert old.codec == ZSTD


@pytest.mark.parametrize("codec", ["", "brotli", None, 4], ids=repr)
def test_a_manifest_of_an_unknown_codec_is_damage(codec: object) -> None:
    new = Manifest(store_id="7", recipe=Recipe(), part_slices=64, codec=LZ4)
    document = json.loads(new.encode())
    assert (document["version"], document["codec"]) == (2, LZ4)  # older readers refuse it
    assert Manifest.from_dict(document, "it") == new
    with pytest.raises(StoreError, match="it is damaged"):
        Manifest.from_dict({**document, "codec": codec}, "it")
    with pytest.raises(StoreError, match=r"version 3; this melbank reads .* version 1 and 2"):
        Manifest.from_dict({**document, "version": 3}, "it")


@each_codec
def test_every_flipped_byte_is_found_and_repaired(
    codec: str, source: Path, stores: dict[str, Path], tmp_path: Path
) -> None:
    store = Path(shutil.copytree(stores[codec], tmp_path / "store"))
    whole = files_of(store)
    shard = next((store / "slices.zarr" / "c").rglob("0/0/0"))
    data = whole[str(shard.relative_to(store))]
    with open_store(str(store)) as opened:
        last = opened.extents(opened.slice_index()["row"].to_numpy())
    end = int(last.offset[-1] + last.length[-1])
    for place in np.random.default_rng(1).integers(end, size=3).tolist():
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        shard.write_bytes(damaged)
        report = verify_store(str(store))
        assert report.damage, place
        repair_store(SourceConfig(root=str(source)), report)
        assert files_of(store) == whole


@each_codec
def test_lost_heads_come_back_from_each_other(
    codec: str, source: Path, stores: dict[str, Path], tmp_path: Path
) -> None:
    store = Path(shutil.copytree(stores[codec], tmp_path / "store"))
    whole = files_of(store)
    for name in ("melbank.json", "slices.zarr/zarr.json"):
        os.unlink(store / name)
        repair_store(SourceConfig(root=str(source)), verify_store(str(store)))
        assert files_of(store) == whole


def test_stores_of_both_codecs_mix_in_one_read(stores: dict[str, Path]) -> None:
    opened = [open_store(str(store)) for store in stores.values()]
    rows = opened[0].slice_index()["row"].to_numpy()
    parts = [one.extents(rows) for one in opened]
    both = replace(
        parts[0],
        objects=parts[0].objects + parts[1].objects,
        codecs=parts[0].codecs + parts[1].codecs,
        object_no=np.concatenate([parts[0].object_no, parts[1].object_no + len(parts[0].objects)]),
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("offset", "length", "crc32c")
        },
    )
    out = np.empty((2 * len(rows), *opened[0].recipe.slice_shape), np.uint8)
    opened[0]._reader.read(both, out)
    cells = opened[0].read(rows)
    assert np.array_equal(out, np.concatenate([cells, cells]))
