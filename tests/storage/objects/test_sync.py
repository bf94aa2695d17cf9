"""A copy is equal to its source, or it opens for nobody: whatever stops a sync, and wherever."""

import random
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import tools.sync
from datasets.shards.copy import SHARDS
from datasets.shards.shard_set import open_shards
from datasets.shards.writer import ShardConfig, write_shards
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.errors import ConfigError, DamageError, StoreError
from storage.maintenance.copy import STORE
from storage.maintenance.verify import verify_store
from storage.objects.copy_mark import NAME as MARKER
from storage.objects.local import LocalObjects
from storage.objects.open import open_objects
from storage.objects.protocol import Objects
from storage.objects.sync import Sync, SyncConfig, SyncReport
from storage.recipe import Recipe
from storage.source.table import SourceConfig
from storage.store import open_store
from tests.paths import ROOT
from tests.s3_server import S3
from tests.shard_sets import contents
from tests.sounds import write_source
from tests.spoiled import flipped
from tests.static_server import StaticServer
from tools.cli.command import run
from tools.testbed.fault_proxy import FaultProxy, Faults

KINDS = {"store": STORE, "shards": SHARDS}
DATA = {"store": "slices.zarr/c/*/0/0", "shards": "*.tar"}  # what holds the slices


def build(root: Path, folder: Path) -> None:
    """The store of a source and its shards; in the store, some parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.build.plan.MIN_PART_SLICES", 8)
        config = BuildConfig(workers=1, max_drop_share=1.0)
        build_store(SourceConfig(root=str(root)), Recipe(), str(folder / "store"), config)
    with open_store(str(folder / "store")) as store:
        config = ShardConfig(shard_size_bytes=400_000, workers=1, max_drop_share=1.0)
        write_shards(store, str(folder / "shards"), config)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and its shards."""
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(6)
    root = write_source(folder / "source", rng.uniform(2, 12, 8).tolist(), rng)
    build(root, folder)
    assert all(len(list((folder / kind).glob(DATA[kind]))) > 2 for kind in KINDS)
    return folder


@pytest.fixture(scope="module")
def grown(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, later: a recording more, one less, others relabelled."""
    folder = tmp_path_factory.mktemp("grown")
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    csv = pl.read_csv(folder / "source" / "train.csv")
    more = csv.head(1).with_columns(filename=pl.lit("spec0/new.ogg"))
    audio = folder / "source" / "train_audio" / "spec0"
    shutil.copy(audio / "XC0003.ogg", audio / "new.ogg")
    with (audio / "new.ogg").open("ab") as file:
        file.write(bytes(100))  # other bytes, or it would be a duplicate
    csv = pl.concat([csv.slice(1), more]).with_columns(rating=pl.lit(4.5))
    csv.write_csv(folder / "source" / "train.csv")
    build(folder / "source", folder)
    return folder


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def copy(kind: str, source: object, target: object, **more: bool) -> SyncReport:
    listing = KINDS[kind].listing
    source, target = (
        end if isinstance(end, LocalObjects) else open_objects(str(end), listing)
        for end in (source, target)
    )
    sync = Sync(kind=KINDS[kind], source=source, target=target, config=SyncConfig())
    return sync.run(**more)


def check_equal(objects: Objects, wanted: dict[str, bytes]) -> None:
    """The objects are these, and no others."""
    assert objects.walk().keys() == wanted.keys()
    assert all(objects.get(name) == data for name, data in wanted.items())


def open_copy(kind: str, folder: Path) -> None:
    """Opens a copy and reads all its slices; StoreError where it is none."""
    if kind == "store":
        open_store(str(folder)).slices()
    else:
        open_shards(str(folder))


def test_a_copy_has_equal_bytes_and_another_run_copies_nothing(
    kind: str, whole: Path, tmp_path: Path
) -> None:
    report = copy(kind, whole / kind, tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(whole / kind)
    assert report.num_copied == len(contents(whole / kind))
    again = copy(kind, whole / kind, tmp_path / "copy")
    assert (again.num_copied, again.num_equal) == (0, report.num_copied)


def test_there_and_back_over_s3(kind: str, whole: Path, tmp_path: Path, s3: S3) -> None:
    places = [whole / kind, s3.url("birds/copy"), s3.url("second"), tmp_path / "back"]
    for source, target in pairwise(places):
        assert copy(kind, source, target).num_copied == len(contents(whole / kind))
        assert copy(kind, source, target).num_copied == 0
    assert contents(tmp_path / "back") == contents(whole / kind)


def test_from_a_web_server(kind: str, whole: Path, tmp_path: Path) -> None:
    with StaticServer(whole) as server:
        copy(kind, f"{server.endpoint}/{kind}", tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(whole / kind)


def test_an_update_makes_the_copy_equal(
    kind: str, whole: Path, grown: Path, tmp_path: Path, s3: S3
) -> None:
    for target in (tmp_path / "copy", s3.url("copy")):
        first = copy(kind, whole / kind, target)
        report = copy(kind, grown / kind, target, delete=True)
        assert 0 < report.num_copied < first.num_copied + 9
        assert report.num_equal > 0
        check_equal(open_objects(str(target)), contents(grown / kind))


class StoppedError(StoreError):
    """The fake's own."""


class StoppingObjects(LocalObjects):
    """A folder whose process dies at the n-th change; no change after that is seen."""

    def __init__(self, url: str, changes: int) -> None:
        super().__init__(url)
        self.changes_left = changes

    def _change(self) -> None:
        if self.changes_left == 0:
            raise StoppedError
        self.changes_left -= 1

    def put(self, name: str, data: bytes) -> None:
        self._change()
        super().put(name, data)

    def put_new(self, name: str, data: bytes) -> None:
        self._change()
        super().put_new(name, data)

    def delete(self, name: str) -> None:
        self._change()
        super().delete(name)


@pytest.mark.parametrize("update", [False, True], ids=["first copy", "update"])
def test_stopped_anywhere_it_is_what_it_was_or_opens_for_nobody(
    kind: str, update: bool, whole: Path, grown: Path, tmp_path: Path
) -> None:
    states = [contents(grown / kind)]
    if update:
        states.append(contents(whole / kind))
    seen = set()
    for stop in range(1000):
        target = tmp_path / str(stop)
        if update:
            shutil.copytree(whole / kind, target)
        try:
            copy(kind, grown / kind, StoppingObjects(str(target), stop), delete=True)
        except StoppedError:
            pass
        else:
            break
        seen.add(visible_state(kind, target, states))
        copy(kind, grown / kind, target, delete=True)
        assert contents(target) == states[0]
        shutil.rmtree(target)
    assert 3 < stop < 999
    assert seen == {"nothing", "old", "new"} if update else {"nothing", "new"}


def visible_state(kind: str, folder: Path, states: list[dict[str, bytes]]) -> str:
    """State as a reader finds it: the old copy, the new one, or nothing that opens."""
    head = folder / KINDS[kind].head
    if not head.exists():
        with pytest.raises(StoreError):
            open_copy(kind, folder)
        return "nothing"
    there = contents(folder)
    for name, state in zip(("new", "old"), states, strict=False):
        if state.items() <= there.items():
            open_copy(kind, folder)
            return name
    raise AssertionError(f"{sorted(there)} is neither the old copy nor the new one")


@pytest.mark.parametrize(
    ("kind", "pattern", "problem"),
    [
        ("store", DATA["store"], "is damaged"),
        ("store", "recordings/part-00001.parquet", "differs from its sha256"),
        ("shards", DATA["shards"], "differs from its sha256"),
    ],
    ids=["zarr shard", "table", "tar"],
)
def test_damage_in_the_source_is_not_copied(
    kind: str, pattern: str, problem: str, whole: Path, tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(whole / kind, tmp_path / "damaged"))
    victim = next(damaged.glob(pattern))
    spoil(victim)
    with pytest.raises(DamageError, match=f"{victim} {problem}.*tools.verify"):
        copy(kind, damaged, tmp_path / "copy")
    assert not (tmp_path / "copy" / victim.relative_to(damaged)).exists()
    with pytest.raises(StoreError):
        open_copy(kind, tmp_path / "copy")


def test_damage_in_a_copy_is_found(kind: str, whole: Path, tmp_path: Path) -> None:
    copy(kind, whole / kind, tmp_path / kind)
    victim = next((tmp_path / kind).glob(DATA[kind]))
    spoil(victim)
    if kind == "store":
        with pytest.raises(StoreError, match=f"{victim} has other bytes than"):
            copy(kind, whole / kind, tmp_path / kind)
        victim.unlink()
    assert copy(kind, whole / kind, tmp_path / kind).num_copied == 1
    assert contents(tmp_path / kind) == contents(whole / kind)


def spoil(file: Path) -> None:
    """One bit of a file, somewhere in its first half."""
    data = file.read_bytes()
    file.unlink()  # it may be a link to another's
    file.write_bytes(flipped(data, len(data) // 3))


def test_what_the_source_has_no_more_goes_only_with_delete(whole: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    copy("store", whole / "store", target)
    left = target / "slices.zarr" / "c" / "99" / "0"
    left.mkdir(parents=True)
    (left / "0").write_bytes(b"old")
    (target / "notes.txt").write_text("mine")
    report = copy("store", whole / "store", target)
    assert report.left_over == ["slices.zarr/c/99/0/0"]
    assert "--delete" in report.summary()
    assert copy("store", whole / "store", target, delete=True).deleted == report.left_over
    assert not (left / "0").exists()
    assert (target / "notes.txt").exists()


def test_a_copy_that_was_built_on_is_refused(whole: Path, grown: Path, tmp_path: Path) -> None:
    copy("store", grown / "store", tmp_path / "copy")
    with pytest.raises(ConfigError, match=r"index/part-.*changed by itself.*--delete"):
        copy("store", whole / "store", tmp_path / "copy")
    copy("store", whole / "store", tmp_path / "copy", delete=True)
    assert contents(tmp_path / "copy") == contents(whole / "store")
    assert not verify_store(str(tmp_path / "copy")).findings


def test_anything_else_than_a_copy_is_refused(kind: str, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"not empty and no .*thesis\.txt"):
        copy(kind, whole / kind, tmp_path / "mine")
    other = write_source(tmp_path / "source", [3.0], np.random.default_rng(0))
    build(other, tmp_path)
    with pytest.raises(ConfigError, match="is another"):
        copy(kind, whole / kind, tmp_path / kind)


@pytest.mark.parametrize("headless", [False, True], ids=["update", "first"])
def test_nothing_is_built_into_half_a_copy(
    kind: str, headless: bool, whole: Path, tmp_path: Path
) -> None:
    for name in KINDS:
        shutil.copytree(whole / name, tmp_path / name)
    half = tmp_path / kind
    (half / MARKER).write_text('{"identity": "x"}')
    if headless:
        (half / KINDS[kind].head).unlink()
    before = contents(half)
    with pytest.raises(StoreError, match=r"tools\.sync has not finished: run the same"):
        build(whole / "source", tmp_path)
    assert contents(half) == before
    if headless:
        with pytest.raises(StoreError, match=r"tools\.sync has not finished"):
            open_copy(kind, half)


def test_a_copy_into_its_own_source_is_refused(kind: str, whole: Path) -> None:
    for target in (whole / kind, whole / kind / "copy", whole):
        with pytest.raises(ConfigError, match="contain each other"):
            copy(kind, whole / kind, target)


def test_unfinished_sources_are_refused(whole: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(whole / "store", tmp_path / "store"))
    (store / "plans").mkdir(exist_ok=True)
    (store / "plans" / "plan-00000.parquet").write_bytes(b"x")
    with pytest.raises(StoreError, match="is unfinished"):
        copy("store", store, tmp_path / "copy")
    shards = Path(shutil.copytree(whole / "shards", tmp_path / "shards"))
    (shards / "unfinished").mkdir(exist_ok=True)
    (shards / "unfinished" / "plan.json").write_bytes(b"{}")
    with pytest.raises(StoreError, match="being written"):
        copy("shards", shards, tmp_path / "copy")


def test_objects_recorded_with_equal_sha256_are_not_read_back(
    s3: S3, proxy: FaultProxy, whole: Path
) -> None:
    """The records of the two sets are enough."""
    copy("shards", whole / "shards", s3.url("copy"))
    proxy.reset_counts()
    assert copy("shards", whole / "shards", s3.url("copy")).num_copied == 0
    assert proxy.counts.sent_bytes["GET"] < 20_000  # shards.json alone


@pytest.mark.parametrize("num_kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_and_run_again_it_ends_with_equal_bytes(
    kind: str, num_kills: int, whole: Path, s3: S3, proxy: FaultProxy
) -> None:
    """SIGKILL at random moments of syncs to the real server, over a slow line."""
    rng, wanted = random.Random(num_kills), contents(whole / kind)
    for number in range(num_kills):
        proxy.faults = Faults(latency_s=0.02)
        proxy.reset_counts()
        url = s3.url(f"copy {number}")
        words = [str(whole / kind), url, "sync.in_flight=2"]
        command = [sys.executable, "-m", "tools.sync", *words]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        num_puts = rng.randrange(1, len(wanted))
        while process.poll() is None and proxy.counts.requests["PUT"] < num_puts:
            time.sleep(0.002)
        process.kill()
        process.wait()
        proxy.faults = Faults()
        copy(kind, whole / kind, url)
        check_equal(open_objects(url), wanted)


def call(*words: object) -> int:
    config = ["--config", str(ROOT / "configs" / "base.yaml")]
    return run(tools.sync.COMMAND, tools.sync.main, [*config, *map(str, words)])


def test_the_command(
    kind: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(whole / kind, tmp_path / "copy", "--dry-run") == 0
    assert "would be copied" in capsys.readouterr().out
    assert not (tmp_path / "copy").exists()
    assert call(whole / kind, tmp_path / "copy", "sync.in_flight=1") == 0
    assert "0 equal already" in capsys.readouterr().out
    assert contents(tmp_path / "copy") == contents(whole / kind)


def test_wrong_calls_are_one_line(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path, tmp_path / "copy") == 1
    assert "is neither a store nor a shard set" in capsys.readouterr().err
    (tmp_path / "mine.txt").write_text("x")
    assert call(whole / "store", tmp_path) == 2
    assert "not empty and no store" in capsys.readouterr().err
    assert call(whole / "store", tmp_path / "copy", "sync.in_flight=0") == 2
    assert "sync.in_flight=0" in capsys.readouterr().err


def test_kinds_know_their_names() -> None:
    names = ["melbank.json", "shards.json", "index/part-00000.parquet", "shard-000000.tar", "x.txt"]
    assert list(filter(STORE.owns, names)) == ["melbank.json", "index/part-00000.parquet"]
    assert list(filter(SHARDS.owns, names)) == ["shards.json", "shard-000000.tar"]
