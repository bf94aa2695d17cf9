"""datasets.shards.writer and shard_index: plain tars, found again slice by slice."""

import gc
import hashlib
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import webdataset

from datasets.sampling.epoch_plan import plan_all
from datasets.shards.format import sample_key
from datasets.shards.plan import cut_into_shards
from datasets.shards.shard_set import open_shards
from datasets.shards.writer import ShardConfig, write_shards
from storage.errors import ConfigError, DamageError, StoreError
from storage.recipe import Recipe
from tests.fakes import write_fake_source
from tests.shard_sets import LENGTHS, SMALL_SHARDS, contents, flip, read_all


@pytest.mark.parametrize("encoding", ["uint8", "float16", "float32"])
def test_shards_give_back_what_the_source_has(tmp_path, target, encoding):
    recipe = Recipe(
        sample_rate_hz=1000, n_fft=64, hop=32, n_mels=5, fmax_hz=500, slice_s=0.3, encoding=encoding
    )
    source = write_fake_source(tmp_path / "cells.raw", LENGTHS, seed=1, recipe=recipe)
    report = write_shards(source, str(target), SMALL_SHARDS)
    shards = open_shards(str(target))
    assert report.num_shards == len(list(target.glob("shard-*.tar"))) > 3
    assert report.num_slices == sum(LENGTHS)
    assert report.num_recordings == len(LENGTHS)
    assert report.size_bytes == sum(path.stat().st_size for path in target.glob("*.tar"))
    assert shards.recordings().equals(source.recordings())
    assert shards.slice_index().equals(source.slice_index())
    assert (shards.recipe, shards.store_id) == (source.recipe, source.store_id)
    assert np.array_equal(read_all(shards), source.cells)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves them open
def test_stock_webdataset_alone_reads_every_slice_once(source, target):
    write_shards(source, str(target), SMALL_SHARDS)
    urls = sorted(str(path) for path in target.glob("shard-*.tar"))
    stock = webdataset.WebDataset(urls, shardshuffle=False).decode()
    index = source.slice_index()
    labels = dict(source.table.select("recording_id", "primary_label").iter_rows())
    samples = list(stock)
    assert len(samples) == len(index)
    for sample, cells, line in zip(samples, source.cells, index.iter_rows(named=True), strict=True):
        assert sample["__key__"] == sample_key(line["recording_id"], line["slice_no"])
        assert np.array_equal(sample["mel.npy"], cells)
        assert sample["json"]["primary_label"] == labels[line["recording_id"]]
        assert {name: sample["json"][name] for name in ("row", "slice_no", "crc32c")} == {
            name: line[name] for name in ("row", "slice_no", "crc32c")
        }
    del stock, samples, sample
    gc.collect()


def test_the_side_index_alone_finds_each_slice_in_the_tars(source, target):
    """Anybody can seek to `offset` and read `length` bytes; Parquet and a file are all it takes."""
    write_shards(source, str(target), SMALL_SHARDS)
    index = pl.read_parquet(target / "shards.parquet")
    names = ["shard", "offset", "length", "row", "recording_id", "slice_no"]
    assert index.columns[:6] == names
    for line, cells in zip(index.iter_rows(named=True), source.cells, strict=True):
        with (target / line["shard"]).open("rb") as file:
            file.seek(line["offset"])
            assert file.read(line["length"]) == cells.tobytes()


def test_recordings_are_whole_and_in_order_and_fill_the_shards(source, target):
    write_shards(source, str(target), SMALL_SHARDS)
    index = pl.read_parquet(target / "shards.parquet")
    assert index.group_by("recording_id").agg(pl.col("shard").n_unique())["shard"].max() == 1
    assert index["shard"].is_sorted()
    assert index["row"].is_sorted()
    sizes = [path.stat().st_size for path in sorted(target.glob("*.tar"))]
    # one recording alone is larger than a shard; names beyond ASCII cost headers of their own
    assert 40_000 / 2 < np.median(sizes) < 40_000 * 2
    assert len(sizes) < len(LENGTHS)


def test_keys_have_no_dots_and_can_be_told_apart():
    keys = [sample_key(name, 3) for name in ("a.b", "a%2Eb", "a%252Eb", "a/b.c")]
    assert keys == ["a%2Eb_00003", "a%252Eb_00003", "a%25252Eb_00003", "a/b%2Ec_00003"]


def test_members_carry_nothing_of_time_or_owner(source, target):
    write_shards(source, str(target), SMALL_SHARDS)
    with tarfile.open(target / "shard-000000.tar") as tar:
        members = tar.getmembers()
    assert {(one.mtime, one.uid, one.gid, one.mode) for one in members} == {(0, 0, 0, 0o444)}
    assert [one.name.split(".", 1)[1] for one in members[:4]] == ["json", "mel.npy"] * 2


def test_long_names_are_found_again(tmp_path, target):
    source = write_fake_source(tmp_path / "cells.raw", [2, 3], seed=1)
    long = {"take 0.5%é": "ä" * 200, "take 1.5%é": "long " * 60}
    rename = pl.col("recording_id").replace(long)
    source = replace(
        source,
        table=source.table.with_columns(rename),
        index=source.index.with_columns(rename),
    )
    write_shards(source, str(target), ShardConfig())
    assert np.array_equal(read_all(open_shards(str(target))), source.cells)


def test_checksums_are_those_of_the_files(source, target):
    write_shards(source, str(target), SMALL_SHARDS)
    document = json.loads((target / "shards.json").read_text())
    names = {name for name in contents(target) if name != "shards.json"}
    assert set(document["files"]) == names
    for name, entry in document["files"].items():
        data = (target / name).read_bytes()
        assert entry["size_bytes"] == len(data)
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()


def test_where_and_limit_take_a_part_with_its_rows(source, target, tmp_path):
    config = ShardConfig(where="primary_label = 'a' AND rating >= 1")
    write_shards(source, str(target), config)
    part = open_shards(str(target))
    assert part.recordings()["recording_id"].to_list() == ["take 3.5%é", "take 9.5%é"]
    assert part.slice_index()["row"].to_list() == plan_all(part.recordings()).rows.tolist()
    rows = part.slice_index()["row"].to_numpy()
    assert np.array_equal(read_all(part), source.read(rows))
    write_shards(source, str(tmp_path / "few"), ShardConfig(), limit=5)
    write_shards(source, str(tmp_path / "fewer"), ShardConfig(), limit=2)
    few = open_shards(str(tmp_path / "few")).recordings()["recording_id"]
    fewer = open_shards(str(tmp_path / "fewer")).recordings()["recording_id"]
    assert len(few) == 5
    assert set(fewer) < set(few)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("rating > 99", "none of 12"),
        ("colour = 'red'", "colour"),
        ("rating >", "SQL"),
        ("recording_id IN (SELECT x FROM read_csv('/etc/passwd'))", "/etc/passwd"),
    ],
    ids=["nothing left", "no column", "no sql", "a file"],
)
def test_a_condition_that_cannot_be_is_refused(source, target, where, said):
    with pytest.raises(ConfigError, match=said):
        write_shards(source, str(target), ShardConfig(where=where))
    assert not target.exists()


def test_a_folder_that_holds_something_else_is_left_alone(source, target):
    target.mkdir()
    (target / "thesis.tex").write_text("important")
    with pytest.raises(ConfigError, match=r"thesis\.tex.*new folder"):
        write_shards(source, str(target), SMALL_SHARDS)
    assert contents(target) == {"thesis.tex": b"important"}
    with pytest.raises(ConfigError, match="is a file"):
        write_shards(source, str(target / "thesis.tex"), SMALL_SHARDS)


def test_a_damaged_source_is_not_copied(source, target):
    flip(Path(source.url), 5)
    with pytest.raises(DamageError, match="checksum"):
        write_shards(source, str(target), SMALL_SHARDS)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-20],
        lambda text: text.replace('"n_mels": 8', '"n_mels": 9'),
        lambda text: text.replace('"version": 1', '"version": 2'),
        lambda text: text.replace('"sha256"', '"sha1"'),
        lambda text: text.replace('"shards.parquet"', '"shards.csv"'),
        lambda _: "[]",
    ],
    ids=["cut", "recipe", "version", "key", "no index", "list"],
)
def test_a_manifest_that_is_not_ours_is_refused(source, target, change):
    write_shards(source, str(target), SMALL_SHARDS)
    path = target / "shards.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(StoreError, match="shards"):
        open_shards(str(target))


def test_no_set_and_strange_rows_are_refused(source, target, tmp_path):
    with pytest.raises(StoreError, match="write_shards"):
        open_shards(str(tmp_path))
    write_shards(source, str(target), SMALL_SHARDS)
    for row in (0, 10, 10**9):
        with pytest.raises(StoreError, match=f"row {row} "):
            open_shards(str(target)).extents(np.array([7, row]))


def test_shards_are_filled_in_order_and_hold_one_recording_at_least():
    num_slices = np.array([1, 1, 1, 100, 1, 1])
    pieces = cut_into_shards(num_slices, slice_bytes=1024, shard_size_bytes=3 * 3072)
    assert [piece.tolist() for piece in pieces] == [[0, 1, 2], [3], [4, 5]]
    assert cut_into_shards(num_slices[:0], 1024, 3 * 3072) == []
