"""Writers of shares make the bytes of one writer: any number, any order, kills, two at once."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from datasets.shards import writer as module
from datasets.shards.report import ShardReport
from datasets.shards.shard_set import open_shards
from datasets.shards.verify import verify_shards
from datasets.shards.writer import ShardConfig, write_shards
from storage.errors import ConfigError, StoreError
from storage.objects.open import open_objects
from tests.datasets.shards.test_shard_kill import Writer
from tests.fakes import FakeSource, write_fake_source
from tests.s3_server import S3
from tests.shard_sets import (
    LENGTHS,
    SMALL_SHARDS,
    PartSource,
    check_holds,
    contents,
    identities,
    part_of,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> FakeSource:
    return write_fake_source(tmp_path_factory.mktemp("shares") / "cells.raw", LENGTHS, seed=1)


@pytest.fixture(scope="module")
def whole(source: FakeSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set of one writer."""
    folder = tmp_path_factory.mktemp("one") / "shards"
    write_shards(source, str(folder), SMALL_SHARDS)
    assert len(list(folder.glob("*.tar"))) == 5
    return folder


def write(source: FakeSource | PartSource, target: Path | str, part: str | None) -> ShardReport:
    return write_shards(source, str(target), replace(SMALL_SHARDS, part=part))


@pytest.mark.parametrize(
    ("count", "order"),
    [(1, [1]), (2, [2, 1]), (3, [1, 3, 3, 2]), (20, [7, *range(20, 0, -1)])],
    ids=["one", "two", "one twice", "more than shards"],
)
def test_shares_in_any_order_make_the_bytes_of_one_writer(
    source: FakeSource, whole: Path, tmp_path: Path, count: int, order: list[int]
) -> None:
    target = tmp_path / "shards"
    reports = [write(source, target, f"{number}/{count}") for number in order]
    assert contents(target) == contents(whole)
    total = sum(report.new_shards for report in reports)
    assert total == len(identities(whole)) == len(identities(target))
    assert "slices of" in reports[-1].summary()
    if count == 2:
        assert "share 2/2 is done" in reports[0].summary()


def test_nothing_is_written_again_by_a_share_of_a_finished_set(
    source: FakeSource, tmp_path: Path
) -> None:
    target = tmp_path / "shards"
    for number in (1, 2):
        write(source, target, f"{number}/2")
    before = identities(target, "*")
    assert write(source, target, "2/2").new_shards == 0
    assert identities(target, "*") == before


def test_a_set_that_grows_and_loses_a_shard_by_shares_is_that_of_one(
    source: FakeSource, tmp_path: Path
) -> None:
    for name, parts in (("one", [None]), ("three", ["3/3", "1/3", "2/3"])):
        target = tmp_path / name
        write(part_of(source, range(6)), target, None)
        (target / "shard-000001.tar").unlink()
        for part in parts:
            write(source, target, part)
        check_holds(open_shards(str(target)), source)
    assert contents(tmp_path / "three") == contents(tmp_path / "one")


def test_one_writer_of_all_goes_on_with_shares(
    source: FakeSource, whole: Path, tmp_path: Path
) -> None:
    target = tmp_path / "shards"
    write(source, target, "2/3")
    before = identities(target)
    write(source, target, None)
    assert contents(target) == contents(whole)
    assert before.items() <= identities(target).items()


def test_writers_of_other_recordings_or_sizes_are_refused(
    source: FakeSource, tmp_path: Path
) -> None:
    target = tmp_path / "shards"
    write(source, target, "1/2")
    with pytest.raises(StoreError, match=r"end it without write_shards\.part"):
        write(part_of(source, range(6)), target, "2/2")
    larger = replace(SMALL_SHARDS, shard_size_bytes=80_000, part="2/2")
    with pytest.raises(StoreError, match=r"another write_shards\.shard_size_bytes"):
        write_shards(source, str(target), larger)
    write(part_of(source, range(6)), target, None)
    check_holds(open_shards(str(target)), part_of(source, range(6)))


@pytest.mark.parametrize("place", ["parquet", "recordings", "shards.json"])
def test_a_commit_that_is_killed_is_finished_by_any_share(
    source: FakeSource, whole: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "shards"
    write(source, target, "1/2")
    objects = open_objects(str(target))
    usual = type(objects).put

    def killed(self, name: str, data: bytes) -> None:  # type: ignore[no-untyped-def]  # a method
        if not name.startswith("unfinished") and not name.endswith(".tar") and place in name:
            raise KeyboardInterrupt
        usual(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(type(objects), "put", killed)
        with pytest.raises(KeyboardInterrupt):
            write(source, target, "2/2")
    before = identities(target)
    assert write(source, target, "1/2").new_shards == 0
    assert contents(target) == contents(whole)
    assert identities(target) == before


def test_records_of_other_slices_are_not_believed(
    source: FakeSource, whole: Path, tmp_path: Path
) -> None:
    """As a writer leaves them that was stopped for long, after the set was finished."""
    target = tmp_path / "shards"
    write(source, target, "1/2")
    record = target / "unfinished" / "shard-000000.tar.parquet"
    shutil.copy(target / "unfinished" / "shard-000002.tar.parquet", record)
    for number in (1, 2):
        write(source, target, f"{number}/2")
    assert contents(target) == contents(whole)


def test_a_new_set_and_a_share_of_it_contradict() -> None:
    with pytest.raises(ConfigError, match=r"write_shards\.fresh=true with write_shards\.part=1/2"):
        ShardConfig(part="1/2", fresh=True)


def test_shares_into_a_bucket(s3: S3, source: FakeSource, whole: Path, tmp_path: Path) -> None:
    url = s3.url("shards")
    for number in (2, 1, 2):
        write(source, url, f"{number}/2")
    objects = open_objects(url)
    names = [*objects.walk()]
    assert dict(zip(names, objects.get_many(names), strict=True)) == contents(whole)


def test_a_writer_that_ends_after_another_has_committed_leaves_nothing(
    s3: S3, source: FakeSource, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of the same share at once: one commits the set while the other one still writes."""
    url = s3.url("shards")
    write(source, url, "1/2")
    usual = module._Run.write

    def late(self, plan, names):  # type: ignore[no-untyped-def]  # a method
        monkeypatch.setattr(module._Run, "write", usual)
        write(source, url, "2/2")
        return usual(self, plan, names)

    monkeypatch.setattr(module._Run, "write", late)
    report = write(source, url, "2/2")
    assert not report.unclosed
    objects = open_objects(url)
    names = [*objects.walk()]
    assert dict(zip(names, objects.get_many(names), strict=True)) == contents(whole)


@pytest.mark.slow
def test_a_share_that_is_killed_is_written_again_and_no_recorded_shard_is(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    whole = tmp_path / "whole"
    writer.finish(whole, 1)
    for number in range(6):
        target = tmp_path / f"shards-{number}"
        writer.kill(writer.start(target, 1, part="1/2"), target, None)
        before = identities(target)
        recorded = {
            path.name.removesuffix(".json") for path in target.glob("unfinished/*.tar.json")
        }
        processes = [writer.start(target, 1, part=part) for part in ("1/2", "2/2", "2/2")]
        for process in processes:
            with process:
                assert process.wait(timeout=100) == 0
        assert contents(target) == contents(whole)
        after = identities(target)
        assert all(after[name] == before[name] for name in recorded)
        assert not verify_shards(str(target), None).damage
