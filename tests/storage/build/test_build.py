"""A build stores every recording once, whatever happens, and equal input gives equal bytes."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
import zarr

from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.build.plan import PartRange
from storage.build.report import BuildReport
from storage.errors import ConfigError, StoreError
from storage.objects.local import TEMPORARY
from storage.objects.lock import builder_lock
from storage.objects.open import open_objects
from storage.progress import Step, silent
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.sounds import chirps, write_source

ONE = BuildConfig(workers=1)
LENGTHS_S = (0.3, 6.0, 9.9, 5.0, 12.6, 5.4, 7.5)


def build(root: Path, store: Path, **more: object) -> BuildReport:
    source = SourceConfig(root=str(root))
    return build_store(source, Recipe(), str(store), more.pop("config", ONE), **more)


def bytes_of(store: Path) -> dict[str, bytes]:
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def identities(store: Path, folder: str) -> dict[str, tuple[int, int]]:
    """(inode, mtime) of every file: what was written again shows."""
    return {
        path.as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted((store / folder).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("source"), LENGTHS_S, np.random.default_rng(3))


@pytest.fixture(scope="module")
def store(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "store"
    build(source, path)
    return path


@pytest.fixture
def own_source(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "source"))


@pytest.fixture
def own_store(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / "store"))


def test_zarr_and_polars_alone_read_the_store(store: Path) -> None:
    array = zarr.open_array(store / "slices.zarr", mode="r")
    index = pl.read_parquet(store / "index" / "*.parquet")
    recordings = pl.read_parquet(store / "recordings" / "*.parquet")
    opened = open_store(str(store))
    assert array.shape[1:] == (128, 313)
    assert array.dtype == np.uint8
    assert np.array_equal(array.oindex[index["row"].to_numpy()], opened.slices())
    for name, first_row, num_slices in recordings.select(
        "recording_id", "first_row", "num_slices"
    ).iter_rows():
        mine = index.filter(pl.col("recording_id") == name)
        assert mine["row"].to_list() == list(range(first_row, first_row + num_slices))
        assert mine["slice_no"].to_list() == list(range(num_slices))


def test_rows_are_read_in_the_order_asked(store: Path) -> None:
    opened = open_store(str(store))
    rows = opened.slice_index()["row"].to_numpy()
    every = opened.read(rows)
    order = np.random.default_rng(0).integers(0, len(rows), 40)
    assert np.array_equal(opened.read(rows[order]), every[order])
    assert opened.read([]).shape == (0, 128, 313)
    with pytest.raises(StoreError, match="row 1023 is not in"):
        opened.read([rows[0], 1023])


def test_metadata_are_kept_as_given(source: Path, store: Path) -> None:
    given = pl.read_csv(source / "train.csv")
    kept = open_store(str(store)).recordings()
    both = given.join(kept, on="filename", how="inner", suffix="_kept")
    assert len(both) == len(given)
    for name in ("primary_label", "rating", "author"):
        assert both[name].equals(both[f"{name}_kept"], check_names=False)
    assert kept["secondary_labels"].dtype == pl.List(pl.String)
    lengths = {f"XC{n:04d}": length for n, length in enumerate(LENGTHS_S)}
    for name, duration_s in kept.select("recording_id", "duration_s").iter_rows():
        assert duration_s == pytest.approx(lengths[name.split("/")[1]], abs=0.01)


def test_building_again_writes_nothing(source: Path, own_store: Path) -> None:
    before = identities(own_store, "slices.zarr") | identities(own_store, "index")
    report = build(source, own_store)
    assert report.new_slices == 0
    assert identities(own_store, "slices.zarr") | identities(own_store, "index") == before


def test_what_a_worker_that_was_killed_meanwhile_has_left_is_cleared(
    source: Path, tmp_path: Path
) -> None:
    """The build itself went on without that worker, and nobody may build here again."""
    half_written = tmp_path / "store" / TEMPORARY / "123-abc"

    @contextmanager
    def leave_half(what: str, total: int, unit: str) -> Iterator[Step]:
        if what == "building":
            half_written.parent.mkdir(parents=True, exist_ok=True)
            half_written.write_bytes(b"PAR1")
        with silent(what, total, unit) as step:
            yield step

    build(source, tmp_path / "store", progress=leave_half)
    assert not half_written.exists()


def test_small_parts_and_workers_give_equal_bytes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.build.plan.MIN_PART_SLICES", 4)
    build(source, tmp_path / "one")
    build(source, tmp_path / "two", config=BuildConfig(workers=2))
    one, two = bytes_of(tmp_path / "one"), bytes_of(tmp_path / "two")
    assert len([name for name in one if name.startswith("index/")]) >= 4
    assert one == two


def test_what_does_not_fit_its_part_is_built_behind_the_last(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = property(lambda part: 6 if part.part == 0 else 1024)
    monkeypatch.setattr(PartRange, "capacity", small)
    report = build(source, tmp_path / "store")
    assert report.num_stored == len(LENGTHS_S)
    assert len(list((tmp_path / "store" / "index").iterdir())) == 2
    opened = open_store(str(tmp_path / "store"))
    assert len(opened.slices()) == report.num_slices
    assert opened.slice_index()["row"].max() >= 1024


def test_dropped_recordings_leave_the_index_at_once(own_source: Path, own_store: Path) -> None:
    before = identities(own_store, "slices.zarr")
    csv = pl.read_csv(own_source / "train.csv")
    csv.filter(pl.col("filename") != "spec1/XC0001.ogg").write_csv(own_source / "train.csv")
    report = build(own_source, own_store)
    assert report.num_dropped == 1
    for folder in ("index", "recordings"):
        table = pl.read_parquet(own_store / folder / "*.parquet")
        assert "spec1/XC0001" not in table["recording_id"].to_list()
    assert identities(own_store, "slices.zarr") == before


def test_a_source_that_lacks_most_is_refused(own_source: Path, own_store: Path) -> None:
    before = bytes_of(own_store)
    pl.read_csv(own_source / "train.csv").head(1).write_csv(own_source / "train.csv")
    with pytest.raises(ConfigError, match=r"build\.max_drop_share=1"):
        build(own_source, own_store)
    assert bytes_of(own_store) == before
    report = build(own_source, own_store, config=replace(ONE, max_drop_share=1.0))
    assert report.num_dropped == len(LENGTHS_S) - 1


def test_changed_audio_is_replaced(own_source: Path, own_store: Path) -> None:
    path = own_source / "train_audio" / "spec1" / "XC0001.ogg"
    soundfile.write(path, chirps(11.0, np.random.default_rng(10)), 32_000)
    report = build(own_source, own_store)
    opened = open_store(str(own_store))
    mine = opened.recordings().filter(pl.col("recording_id") == "spec1/XC0001")
    assert report.new_slices == mine["num_slices"][0] == 4
    assert mine["first_row"][0] >= 1024
    assert opened.slice_index()["row"].is_unique().all()
    recordings = pl.read_parquet(own_store / "recordings" / "*.parquet")
    assert recordings["recording_id"].is_unique().all()


def test_relabelling_writes_no_array_bytes(own_source: Path, own_store: Path) -> None:
    before = identities(own_store, "slices.zarr") | identities(own_store, "index")
    csv = pl.read_csv(own_source / "train.csv")
    relabelled = csv.with_columns(pl.lit("wren").alias("primary_label"), pl.lit(1).alias("extra"))
    relabelled.write_csv(own_source / "train.csv")
    build(own_source, own_store)
    kept = open_store(str(own_store)).recordings()
    assert set(kept["primary_label"]) == {"wren"}
    assert set(kept["extra"]) == {1}
    assert identities(own_store, "slices.zarr") | identities(own_store, "index") == before


def test_equal_files_are_kept_once(own_source: Path, tmp_path: Path) -> None:
    audio = own_source / "train_audio"
    shutil.copy(audio / "spec1" / "XC0001.ogg", audio / "spec1" / "ZZ.ogg")
    with (own_source / "train.csv").open("a") as csv:
        csv.write("spec1,[''],spec1/ZZ.ogg,1.5,author 9\n")
    report = build(own_source, tmp_path / "store")
    assert (report.num_stored, report.num_duplicates) == (len(LENGTHS_S), 1)
    opened = open_store(str(tmp_path / "store"))
    assert opened.duplicates()["duplicate_of"].to_list() == ["spec1/XC0001"]
    (audio / "spec1" / "XC0001.ogg").unlink()
    csv = pl.read_csv(own_source / "train.csv")
    csv.filter(pl.col("filename") != "spec1/XC0001.ogg").write_csv(own_source / "train.csv")
    build(own_source, tmp_path / "store")
    kept = open_store(str(tmp_path / "store")).recordings()
    assert "spec1/ZZ" in kept["recording_id"].to_list()


def test_bad_input_becomes_rejects_with_reasons(own_source: Path, tmp_path: Path) -> None:
    audio = own_source / "train_audio"
    (audio / "spec0" / "XC0000.ogg").write_bytes(b"")
    (audio / "spec1" / "XC0001.ogg").unlink()
    (audio / "spec2" / "XC0002.ogg").write_text("<html>not found</html>")
    report = build(own_source, tmp_path / "store")
    reasons = dict(report.rejects.select("recording_id", "reason").iter_rows())
    assert report.num_rejected == 3
    assert report.num_found == report.num_stored + report.num_rejected
    assert "empty" in reasons["spec0/XC0000"]
    assert "no such file" in reasons["spec1/XC0001"]
    assert "web page" in reasons["spec2/XC0002"]
    again = build(own_source, tmp_path / "store")
    assert again.new_slices == 0
    soundfile.write(audio / "spec1" / "XC0001.ogg", chirps(5, np.random.default_rng(0)), 32_000)
    repaired = build(own_source, tmp_path / "store")
    assert (repaired.num_rejected, repaired.new_slices) == (2, 1)


def test_slices_stay_when_their_file_is_gone(own_source: Path, own_store: Path) -> None:
    (own_source / "train_audio" / "spec1" / "XC0001.ogg").unlink()
    before = bytes_of(own_store)
    assert build(own_source, own_store).num_stored == len(LENGTHS_S)
    assert bytes_of(own_store) == before


def test_limits_are_nested_and_drop_nothing(source: Path, tmp_path: Path) -> None:
    small = build(source, tmp_path / "store", limit=2)
    ids = set(open_store(str(tmp_path / "store")).recordings()["recording_id"])
    larger = build(source, tmp_path / "store", limit=4)
    more = set(open_store(str(tmp_path / "store")).recordings()["recording_id"])
    assert (small.num_found, larger.num_found) == (2, 4)
    assert len(ids) == 2
    assert ids < more
    build(source, tmp_path / "store", limit=1)
    assert set(open_store(str(tmp_path / "store")).recordings()["recording_id"]) == more


def test_another_recipe_is_refused_with_both_shown(source: Path, own_store: Path) -> None:
    with pytest.raises(ConfigError, match="hop: 256 here, 512 there"):
        build_store(SourceConfig(root=str(source)), Recipe(hop=256), str(own_store), ONE)


def test_a_folder_that_is_no_store_is_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="not empty and not a store"):
        build(source, tmp_path)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_a_second_build_at_once_is_refused(source: Path, own_store: Path) -> None:
    with (
        builder_lock(open_objects(str(own_store))),
        pytest.raises(StoreError, match="another build is at work"),
    ):
        build(source, own_store)


def test_works_from_a_read_only_source(own_source: Path, tmp_path: Path) -> None:
    for path in [*own_source.rglob("*"), own_source]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = sorted(own_source.rglob("*"))
    report = build(own_source, tmp_path / "store")
    assert report.num_stored == len(LENGTHS_S)
    assert sorted(own_source.rglob("*")) == before
    for path in [own_source, *own_source.rglob("*")]:
        path.chmod(0o755)


def test_works_without_fadvise(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    opened = open_store(str(store))
    rows = opened.slice_index()["row"].to_numpy()
    opened._reader.announce(opened.extents(rows))
    assert len(opened.read(rows)) == len(rows)


def test_one_more_recording_is_a_new_part_of_one_zarr_shard(tmp_path: Path) -> None:
    tiny = Recipe(n_mels=8, n_fft=512, hop=512, slice_s=0.05, slice_step_s=0.05)
    rng = np.random.default_rng(13)
    root = write_source(tmp_path / "source", [50.0] * 5, rng, ending="wav")
    source = SourceConfig(root=str(root))
    store = tmp_path / "store"
    assert build_store(source, tiny, str(store), ONE).num_slices >= 5_000
    before = identities(store, "slices.zarr/c") | identities(store, "index")
    soundfile.write(root / "train_audio/spec0/new.wav", chirps(2.0, rng), 32_000)
    with (root / "train.csv").open("a") as csv:
        csv.write("spec0,[''],spec0/new.wav,1.5,author 9\n")
    assert build_store(source, tiny, str(store), ONE).new_slices == 40
    after = identities(store, "slices.zarr/c") | identities(store, "index")
    assert before.items() <= after.items()
    assert len(after) - len(before) == 2  # a zarr shard and an index
