"""verify finds every change of a byte that can change a value; repair brings the bytes back."""

import random
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.errors import DamageError
from storage.maintenance.compact import compact_store
from storage.maintenance.repair import repair_store
from storage.maintenance.verify import verify_store
from storage.objects.open import open_objects
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.sounds import write_source
from tests.storage.build.test_build import bytes_of

ONE = BuildConfig(workers=1)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(11)
    root = write_source(tmp_path_factory.mktemp("source"), rng.uniform(1, 12, 10).tolist(), rng)
    audio = root / "train_audio"
    shutil.copy(audio / "spec1" / "XC0001.ogg", audio / "spec1" / "ZZ.ogg")
    (audio / "spec2" / "bad.ogg").write_text("<html>")
    with (root / "train.csv").open("a") as csv:
        csv.write("spec1,[''],spec1/ZZ.ogg,1.5,a\nspec2,[''],spec2/bad.ogg,1.5,a\n")
    return root


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of several parts."""
    path = tmp_path_factory.mktemp("built") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.build.plan.MIN_PART_SLICES", 8)
        build_store(SourceConfig(root=str(source)), Recipe(), str(path), ONE)
    assert len(list((path / "index").iterdir())) >= 3
    return path


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "store"))


def check_mended(store: Path, source: Path, wanted: dict[str, bytes]) -> None:
    report = verify_store(str(store))
    assert report.damage
    done = repair_store(SourceConfig(root=str(source)), report)
    assert not done.left
    assert bytes_of(store) == wanted
    assert not verify_store(str(store)).damage


def test_a_fresh_store_is_sound(built: Path) -> None:
    report = verify_store(str(built))
    assert report.findings == []
    assert report.num_slices == len(open_store(str(built)).slice_index())


def flip(store: Path, rng: random.Random) -> str:
    """Flips one byte of a random file, files of each kind alike; returns which and where."""
    files = [path for path in sorted(store.rglob("*")) if path.is_file() and path.name != ".lock"]
    shards = [path for path in files if path.name == "0"]
    others = [path for path in files if path not in shards]
    path = rng.choice(shards if rng.random() < 0.5 else others)
    data = bytearray(path.read_bytes())
    place = rng.randrange(len(data))
    data[place] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))
    return f"{path.relative_to(store)} at {place}"


@pytest.mark.parametrize("num_flips", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_flipped_bytes_are_found_and_mended(
    num_flips: int, built: Path, store: Path, source: Path
) -> None:
    rng = random.Random(num_flips)
    for number in range(num_flips):
        what = flip(store, rng)
        assert verify_store(str(store)).damage, f"flip {number} in {what} was not found"
        check_mended(store, source, bytes_of(built))


def remove(name: str):
    return lambda store: (store / name).unlink()


def swap(one: str, two: str):
    def swapped(store: Path) -> None:
        first, second = (store / one).read_bytes(), (store / two).read_bytes()
        (store / one).write_bytes(second)
        (store / two).write_bytes(first)

    return swapped


def truncate(name: str):
    return lambda store: (store / name).write_bytes((store / name).read_bytes()[:-100])


HARMS = {
    "missing-zarr-shard": remove("slices.zarr/c/1/0/0"),
    "missing-index": remove("index/part-00001.parquet"),
    "missing-recordings": remove("recordings/part-00000.parquet"),
    "missing-rejects": remove("rejects/part-00002.parquet"),
    "missing-catalogue": remove("catalog.json"),
    "missing-manifest": remove("melbank.json"),
    "missing-zarr-json": remove("slices.zarr/zarr.json"),
    "swapped-zarr-shards": swap("slices.zarr/c/0/0/0", "slices.zarr/c/1/0/0"),
    "swapped-index": swap("index/part-00000.parquet", "index/part-00001.parquet"),
    "truncated-zarr-shard": truncate("slices.zarr/c/0/0/0"),
    "truncated-index": truncate("index/part-00000.parquet"),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_harm_is_found_and_mended(harm, store: Path, built: Path, source: Path) -> None:
    harm(store)
    check_mended(store, source, bytes_of(built))


def test_rows_stay_where_they_were_though_a_neighbour_was_dropped(
    store: Path, source: Path, tmp_path: Path
) -> None:
    smaller = Path(shutil.copytree(source, tmp_path / "smaller"))
    csv = pl.read_csv(smaller / "train.csv")
    csv.filter(pl.col("filename") != "spec0/XC0000.ogg").write_csv(smaller / "train.csv")
    build_store(SourceConfig(root=str(smaller)), Recipe(), str(store), ONE)
    before = open_store(str(store)).slice_index()
    cells = open_store(str(store)).slices()
    (store / "slices.zarr/c/0/0/0").unlink()
    assert not repair_store(SourceConfig(root=str(smaller)), verify_store(str(store))).left
    assert open_store(str(store)).slice_index().equals(before)
    assert np.array_equal(open_store(str(store)).slices(), cells)


def test_a_part_without_its_audio_is_left_and_named(
    store: Path, source: Path, tmp_path: Path
) -> None:
    smaller = Path(shutil.copytree(source, tmp_path / "smaller"))
    (smaller / "train_audio/spec0/XC0000.ogg").unlink()
    (store / "slices.zarr/c/0/0/0").unlink()
    done = repair_store(SourceConfig(root=str(smaller)), verify_store(str(store)))
    assert len(done.left) == 1
    assert "spec0/XC0000" in done.left[0]
    assert verify_store(str(store)).damage


def test_leftovers_are_noted_and_compacted(store: Path, source: Path, tmp_path: Path) -> None:
    smaller = Path(shutil.copytree(source, tmp_path / "smaller"))
    index = pl.read_parquet(store / "index/part-00000.parquet")
    ids = pl.col("filename").str.replace(r"\.ogg$", "")
    kept = ~ids.is_in(index["recording_id"].unique().implode())
    pl.read_csv(smaller / "train.csv").filter(kept).write_csv(smaller / "train.csv")
    config = BuildConfig(workers=1, max_drop_share=1)
    build_store(SourceConfig(root=str(smaller)), Recipe(), str(store), config)
    (store / "recordings/part-00099.parquet").write_bytes(b"x")
    report = verify_store(str(store))
    assert not report.damage
    notes = " ".join(finding.problem for finding in report.findings)
    assert "1 zarr shards hold no live slice" in notes
    cells = open_store(str(store)).slices()
    assert compact_store(str(store)).num_objects == 2
    assert not open_objects(str(store)).exists("slices.zarr/c/0/0/0")
    assert np.array_equal(open_store(str(store)).slices(), cells)
    assert verify_store(str(store)).findings == []


def test_compact_takes_nothing_for_left_over_when_an_index_is_lost(
    store: Path, source: Path
) -> None:
    (store / "index" / "part-00001.parquet").unlink()
    before = bytes_of(store)
    with pytest.raises(DamageError, match=r"part-00001\.parquet is missing: run tools\.verify"):
        compact_store(str(store))
    with pytest.raises(DamageError, match=r"part-00001\.parquet is missing"):
        build_store(SourceConfig(root=str(source)), Recipe(), str(store), ONE)
    assert bytes_of(store) == before


@pytest.mark.parametrize(
    "harmed", ["slices.zarr/c/0/0/0", "index/part-00000.parquet", "recordings/part-00000.parquet"]
)
def test_a_repair_adds_nothing_that_the_store_did_not_hold(
    harmed: str, source: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    config = SourceConfig(root=str(source))
    build_store(config, Recipe(), str(store), ONE, limit=3)
    wanted = bytes_of(store)
    (store / harmed).write_bytes((store / harmed).read_bytes()[:100])
    assert not repair_store(config, verify_store(str(store))).left
    assert bytes_of(store) == wanted
