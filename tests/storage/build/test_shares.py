"""Builders of shares make the bytes of one builder: any number, any order, kills, two at once."""

import io
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from storage.build import probing
from storage.build.build import build_store
from storage.build.config import BuildConfig
from storage.build.forecast import forecast_build
from storage.build.report import BuildReport
from storage.build.rounds import open_build
from storage.errors import ConfigError, StoreError
from storage.maintenance.verify import verify_store
from storage.objects import lock
from storage.objects.local import LocalObjects
from storage.objects.lock import builder_lock, last_lock, share_lock
from storage.objects.open import open_objects
from storage.recipe import Recipe
from storage.share import Share, parse_share
from storage.source.table import SourceConfig
from tests.s3_server import S3
from tests.sounds import write_source
from tests.storage.build.test_build import bytes_of, identities
from tests.storage.build.test_kill import Builder
from tests.storage.build.test_remote_build import assert_equal

PART_SLICES = 8  # so that even a small store has several parts


@pytest.fixture(scope="module", autouse=True)
def many_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.build.plan.MIN_PART_SLICES", PART_SLICES)
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)
    return write_source(tmp_path_factory.mktemp("shares"), rng.uniform(2, 16, 14).tolist(), rng)


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of one builder."""
    store = tmp_path_factory.mktemp("one") / "store"
    build(source, store)
    return store


def build(
    source: Path, store: Path | str, part: str | None = None, limit: int | None = None
) -> BuildReport:
    config = BuildConfig(workers=1, part=part)
    return build_store(SourceConfig(root=str(source)), Recipe(), str(store), config, limit=limit)


@pytest.mark.parametrize(
    ("count", "order"),
    [(1, [1]), (2, [2, 1]), (3, [1, 3, 3, 2]), (20, [7, *range(20, 0, -1)])],
    ids=["one", "two", "one twice", "more than parts"],
)
def test_shares_in_any_order_make_the_bytes_of_one_builder(
    source: Path, whole: Path, tmp_path: Path, count: int, order: list[int]
) -> None:
    store = tmp_path / "store"
    reports = [build(source, store, f"{number}/{count}") for number in order]
    assert bytes_of(store) == bytes_of(whole)
    assert not verify_store(str(store)).findings
    assert sum(report.new_slices for report in reports) == reports[-1].num_slices
    assert "recordings found" in reports[-1].summary()
    if count == 2:
        assert "share 2/2 is done" in reports[0].summary()
        assert "parts of other shares are not built yet" in reports[0].summary()
        assert not reports[0].holds_nothing


def test_each_file_is_probed_by_one_builder_only(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "MIN_CHUNK_FILES", 2)
    looked: list[str] = []
    usual = probing.probe_recordings

    def counted(recordings, *about):  # type: ignore[no-untyped-def]  # as the function that it is
        looked.extend(recordings["path"])
        return usual(recordings, *about)

    monkeypatch.setattr(probing, "probe_recordings", counted)
    store = tmp_path / "store"
    for number in (2, 3, 1):
        build(source, store, f"{number}/3")
    assert len(looked) == len(set(looked)) == 14
    assert not list(store.glob("probes*"))


def test_a_file_that_changes_between_two_shares_is_stored_as_it_is(
    source: Path, tmp_path: Path
) -> None:
    own = tmp_path / "source"
    own.mkdir()
    for path in source.rglob("*"):
        if path.is_file():
            (own / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (own / path.relative_to(source)).write_bytes(path.read_bytes())
    store = tmp_path / "store"
    build(own, store, "1/2")
    files = sorted(own.rglob("*.ogg"))
    files[-1].write_bytes(files[0].read_bytes())
    files[3].write_bytes(files[5].read_bytes())
    build(own, store, "2/2")
    build(own, store, "1/2")
    build(own, store)  # what was built before the change is found by the next build, as ever
    build(own, tmp_path / "new")
    assert not verify_store(str(store)).damage
    states = [
        open_build(
            SourceConfig(root=str(own)), Recipe(), str(tmp_path / name), BuildConfig()
        ).pending()
        for name in ("store", "new")
    ]
    assert [len(state) for state in states] == [0, 0]


def test_a_store_that_grows_by_shares_is_that_which_grows_by_one(
    source: Path, tmp_path: Path
) -> None:
    for name, shares in (("one", [None]), ("three", ["3/3", "1/3", "2/3"])):
        build(source, tmp_path / name, limit=5)
        for part in shares:
            build(source, tmp_path / name, part)
    assert bytes_of(tmp_path / "three") == bytes_of(tmp_path / "one")


def test_another_count_of_shares_goes_on(source: Path, whole: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    build(source, store, "2/5")
    for number in (1, 2):
        build(source, store, f"{number}/2")
    assert bytes_of(store) == bytes_of(whole)


def test_one_builder_of_all_goes_on_with_shares(source: Path, whole: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    build(source, store, "2/3")
    before = identities(store, "index")
    assert len(before) == 2
    build(source, store)
    assert bytes_of(store) == bytes_of(whole)
    assert before.items() <= identities(store, "index").items()


def test_a_place_with_other_bytes_is_left_and_the_store_is_complete(
    source: Path, whole: Path, tmp_path: Path
) -> None:
    """As where a builder was killed, and its share is built on another kind of processor."""
    store = tmp_path / "store"
    build(source, store, "1/3")
    taken = sorted((whole / "slices.zarr/c").rglob("0"))
    shards = open_objects(str(store)).walk("slices.zarr/c")
    free = next(
        path.relative_to(whole).as_posix()
        for path in taken
        if path.is_file() and path.relative_to(whole).as_posix() not in shards
    )
    open_objects(str(store)).put(free, b"of another processor")
    for number in (3, 2, 2):
        build(source, store, f"{number}/3")
    report = verify_store(str(store))
    assert not report.damage
    assert not list(store.glob("plans/*"))
    finished = build(source, store)
    assert finished.new_slices == 0
    assert finished.num_slices == build(source, whole).num_slices


@pytest.mark.parametrize(
    "kills", [1, pytest.param(8, marks=pytest.mark.slow)], ids=["once", "often"]
)
def test_a_share_that_is_killed_is_built_again_and_no_committed_part_is(
    source: Path, whole: Path, tmp_path: Path, kills: int
) -> None:
    builder, rng = Builder(tmp_path, source, PART_SLICES), random.Random(kills)
    for number in range(kills):
        store = tmp_path / f"store-{number}"
        process = builder.start(store, 1, part="1/2")
        while process.poll() is None and len(identities(store, "index")) < rng.randint(1, 2):
            time.sleep(0.01)
        builder.kill(process)
        committed = identities(store, "index") | identities(store, "slices.zarr/c")
        build(source, store, "2/2")
        build(source, store, "1/2")
        assert bytes_of(store) == bytes_of(whole)
        after = identities(store, "index") | identities(store, "slices.zarr/c")
        assert committed.items() <= after.items()


@pytest.mark.parametrize("place", ["recordings/", "catalog.json", "plans/", "probes/"])
def test_a_share_that_is_killed_while_it_closes_leaves_that_to_any_other(
    source: Path, whole: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    build(source, store, "1/2")
    with monkeypatch.context() as patch:
        for name in ("put", "delete"):
            patch.setattr(LocalObjects, name, stopped_at(place, getattr(LocalObjects, name)))
        patch.setattr("storage.build.reconcile.encode_table", fewer_bytes)
        with pytest.raises(KeyboardInterrupt):
            build(source, store, "2/2")
    build(source, store, "2/2")
    assert bytes_of(store) == bytes_of(whole)


def stopped_at(place: str, usual: Callable[..., None]) -> Callable[..., None]:
    """A method of objects that is stopped before it changes one of these names."""

    def method(self: LocalObjects, name: str, *data: bytes) -> None:
        if name.startswith(place):
            raise KeyboardInterrupt
        usual(self, name, *data)

    return method


def fewer_bytes(frame: pl.DataFrame) -> bytes:
    """Another encoding of the same table, so that closing has tables to rewrite."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="uncompressed")
    return buffer.getvalue()


@pytest.mark.slow
def test_builders_of_shares_at_once_and_two_of_the_same(
    source: Path, whole: Path, tmp_path: Path
) -> None:
    builder, store = Builder(tmp_path, source, PART_SLICES), tmp_path / "store"
    parts = ["1/2", "2/2", "2/2"]
    processes = [builder.start(store, 1, part=part) for part in parts]
    assert [builder.wait(process) for process in processes] == [0, 0, 0]
    assert bytes_of(store) == bytes_of(whole)


@pytest.mark.slow
def test_sixteen_builders_at_once_into_a_bucket(s3: S3, source: Path, tmp_path: Path) -> None:
    """One of them is killed, and built again by two at once, next to another one."""
    builder, url, whole = Builder(tmp_path, source, 1), s3.url("store"), tmp_path / "whole"
    builder.finish(whole, 1)
    assert len(list((whole / "index").iterdir())) == 14  # parts
    builder.kill(builder.start(url, 1, part="4/16"))
    shares = [number for number in range(1, 17) if number != 4]
    processes = [builder.start(url, 1, part=f"{number}/16") for number in shares]
    assert [builder.wait(process) for process in processes] == [0] * 15
    assert not open_objects(url).exists("catalog.json")
    again = [builder.start(url, 1, part=part) for part in ("4/16", "4/16", "9/16")]
    assert [builder.wait(process) for process in again] == [0, 0, 0]
    assert_equal(str(whole), url)
    assert not verify_store(url).findings


def test_shares_into_a_bucket_in_turn(s3: S3, source: Path, whole: Path) -> None:
    url = s3.url("store")
    for number in (2, 1):
        build(source, url, f"{number}/2")
    assert_equal(str(whole), url)


def test_the_lock_lets_shares_work_together_and_the_last_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PATIENCE_S", 0.2)
    objects = LocalObjects(str(tmp_path))
    with share_lock(objects), share_lock(objects):
        with last_lock(objects) as is_last:
            assert not is_last
        with pytest.raises(StoreError, match="another build is at work"), builder_lock(objects):
            pytest.fail("it is held")
    with last_lock(objects) as is_last:
        assert is_last
        with pytest.raises(StoreError, match="another build is at work"), share_lock(objects):
            pytest.fail("it is held")
    with builder_lock(objects), last_lock(objects) as is_last:
        assert not is_last


def hold_a_share(objects: LocalObjects) -> None:
    with share_lock(objects):
        pass


def test_a_share_waits_for_the_one_that_closes_the_store(tmp_path: Path) -> None:
    objects = LocalObjects(str(tmp_path))
    with ThreadPoolExecutor() as pool:
        with last_lock(objects) as is_last:
            assert is_last
            waiting = pool.submit(hold_a_share, objects)
            time.sleep(0.3)
            assert not waiting.done()
        waiting.result(timeout=30)


def test_a_dry_run_forecasts_for_so_many_machines(source: Path, tmp_path: Path) -> None:
    opened = open_build(
        SourceConfig(root=str(source)), Recipe(), str(tmp_path / "store"), BuildConfig(workers=1)
    )
    assert "under a minute" in forecast_build(opened)
    said = forecast_build(opened, Share(1, 4))
    assert "by 4 builders" in said
    assert "parts" in said
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "a/b", "-1/4", "1/1000000", ""])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"build\.part=.* is no share of the work: give i/n"):
        BuildConfig(part=text)


def test_a_share_needs_no_cluster() -> None:
    with pytest.raises(ConfigError, match=r"leave out build\.executor=dask://host:1"):
        BuildConfig(part="1/2", executor="dask://host:1")


@pytest.mark.parametrize(("count", "size"), [(1, 5), (3, 10), (4, 2), (7, 7)])
def test_shares_are_of_all_things_once_and_even(count: int, size: int) -> None:
    things = list(range(size))
    shares = [Share(number, count) for number in range(1, count + 1)]
    assert sorted(thing for share in shares for thing in share.of(things)) == things
    sizes = [len(share.of(things)) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    for share in shares:
        first = share.first(things)
        assert sorted(first) == things
        assert first[: len(share.of(things))] == share.of(things)
    assert parse_share("x", None) is None
