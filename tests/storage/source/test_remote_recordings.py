"""Recordings in a bucket give the store that the same recordings in a folder give."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.build.forecast import forecast_build
from storage.build.report import BuildReport
from storage.build.rounds import open_build
from storage.errors import ConfigError, ObjectMissingError, StoreError
from storage.maintenance.repair import repair_store
from storage.maintenance.verify import verify_store
from storage.objects.open import open_objects
from storage.recipe import Recipe
from storage.source.files import RecordingFiles
from storage.source.npy_folder import read_npy_source
from storage.source.table import SourceConfig, read_source
from tests.full_disk import largest_file
from tests.s3_server import S3
from tests.sounds import write_source
from tests.static_server import StaticServer

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
ONE = BuildConfig(workers=1)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound recordings, and every kind that is not."""
    rng = np.random.default_rng(6)
    root = write_source(tmp_path_factory.mktemp("recordings"), [3, 8, 2, 6, 2], rng)
    audio = root / "train_audio"
    damaged = (audio / "spec1" / "XC0001.ogg").read_bytes()
    (audio / "spec1" / "XC0001.ogg").write_bytes(damaged[: len(damaged) // 2])
    (audio / "spec2" / "XC0002.ogg").write_bytes(POINTER)
    table = pl.read_csv(root / "train.csv")
    odd = table[0].with_columns(filename=pl.lit("spec0/a #1 %25 ü.ogg"), rating=pl.lit(2.5))
    missing = table[0].with_columns(filename=pl.lit("spec0/gone.ogg"))
    shutil.copyfile(audio / "spec0" / "XC0003.ogg", audio / "spec0" / "unlisted.ogg")
    with (audio / "spec0" / "a #1 %25 ü.ogg").open("wb") as file:
        file.write((audio / "spec1" / "XC0004.ogg").read_bytes() + b"\0")
    pl.concat([table, odd, missing]).write_csv(root / "train.csv")
    pl.DataFrame({"primary_label": ["spec0"], "class_name": ["Aves"]}).write_csv(
        root / "taxonomy.csv"
    )
    return root


@pytest.fixture
def bucket(s3: S3, source: Path) -> str:
    """The same recordings in a bucket."""
    url = s3.url("birds")
    objects = open_objects(url)
    for name in open_objects(str(source)).walk():
        objects.put(name, (source / name).read_bytes())
    return url


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this process's temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def build(root: str, url: str) -> BuildReport:
    return build_store(SourceConfig(root=root), Recipe(), url, ONE)


def assert_equal(url: str, other: str) -> None:
    here, there = open_objects(url), open_objects(other)
    assert here.walk() == there.walk()
    assert [name for name in here.walk() if here.get(name) != there.get(name)] == []


def test_the_store_is_that_of_a_folder(
    source: Path, bucket: str, tmp_path: Path, temporary: Path
) -> None:
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    local, remote = build(str(source), here), build(bucket, there)
    assert_equal(here, there)
    assert remote.rejects.equals(local.rejects)
    assert (remote.num_stored, remote.num_partial, remote.num_rejected) == (4, 1, 2)
    assert remote.num_unlisted == local.num_unlisted == 1
    reasons = "\n".join(remote.rejects["reason"])
    for words in ("git lfs pull", "there is no such file: gone.ogg", "no end mark"):
        assert words in reasons
    assert build(bucket, there).new_slices == 0
    forecast = forecast_build(open_build(SourceConfig(root=bucket), Recipe(), there, ONE))
    assert " 0 would be built, 0 built again" in forecast
    assert " 0 others dropped" in forecast
    Path(there, "slices.zarr/c/0/0/0").unlink()
    assert not repair_store(SourceConfig(root=bucket), verify_store(there)).left
    assert_equal(here, there)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("below", ["", "/train_audio"], ids=["csv", "a folder per label"])
def test_the_listing_is_that_of_a_folder(source: Path, bucket: str, below: str) -> None:
    here = read_source(SourceConfig(root=f"{source}{below}"))
    for ending in ("", "/"):
        there = read_source(SourceConfig(root=f"{bucket}{below}{ending}"))
        assert there.recordings.drop("path").equals(here.recordings.drop("path"))
        assert there.num_unlisted == here.num_unlisted
        files = RecordingFiles()
        for mine, theirs in zip(here.recordings["path"], there.recordings["path"], strict=True):
            if Path(mine).exists():
                with files.open(mine) as one, files.open(theirs) as other:
                    assert one.name == other.name
                    assert one.read_bytes() == other.read_bytes()


def test_a_web_server_shows_what_the_csv_names(source: Path) -> None:
    with StaticServer(source) as server:
        there = read_source(SourceConfig(root=server.endpoint))
        here = read_source(SourceConfig(root=str(source)))
        assert there.recordings.drop("path").equals(here.recordings.drop("path"))
        with RecordingFiles().open(there.recordings["path"][0]) as file:
            assert file.read_bytes() == Path(here.recordings["path"][0]).read_bytes()


def test_a_copy_that_finds_no_room_is_an_error_and_leaves_nothing(
    bucket: str, tmp_path: Path, temporary: Path
) -> None:
    with (
        largest_file(8_000),
        pytest.raises(StoreError, match=r"ogg cannot be copied here \(File too large\)") as caught,
    ):
        build(bucket, str(tmp_path / "store"))
    assert "\n" not in str(caught.value)
    assert list(temporary.iterdir()) == []
    assert not (tmp_path / "store" / "melbank.json").exists()


def test_what_cannot_be_a_source_is_refused_in_a_line(s3: S3, bucket: str) -> None:
    with pytest.raises(ConfigError, match="there is no such folder, or nothing in it"):
        read_source(SourceConfig(root=s3.url("other")))
    with pytest.raises(ConfigError, match=r"birds/none\.csv is missing"):
        read_source(SourceConfig(root=bucket, csv="none.csv"))
    with pytest.raises(ConfigError, match="credentials in a URL end up in logs"):
        SourceConfig(root="s3://me:secret@bucket/birds")
    with pytest.raises(ConfigError, match="slices are imported from a folder of this machine"):
        read_npy_source(SourceConfig(root=bucket))
    with (
        pytest.raises(ObjectMissingError, match="is missing"),
        RecordingFiles().open(f"{bucket}/train_audio/none.ogg"),
    ):
        pass
