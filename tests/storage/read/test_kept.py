"""storage.read.kept: slices kept from ranged requests never change what is read."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import StoreError
from storage.objects.client import CACHED, RANGED, RemoteConfig
from storage.read import downloads
from storage.read.cache import ShardCache
from storage.read.event_loop import background_loop
from storage.read.kept import KeptSlices
from storage.read.pace import BUSY_BYTES, PIECES_AT_ONCE, Line
from storage.read.ranged import RemoteReader
from storage.read.slice_reader import SliceReader
from storage.recipe import Recipe
from tests.fakes import FakeSource, write_fake_source
from tests.full_disk import largest_file
from tests.paths import ROOT
from tests.remote_sources import LENGTHS, OBJECTS, RemoteFake
from tests.static_server import StaticServer

SIZE, SLICE = 50_000, 1000  # bytes
RECIPE = Recipe(sample_rate_hz=1000, n_fft=64, hop=32, n_mels=16, fmin_hz=0, fmax_hz=500, slice_s=2)


def content(number: int) -> bytes:
    return np.random.default_rng(number).bytes(SLICE)


def read_marked(kept: KeptSlices, key: str) -> dict[int, bytes]:
    """Reads the marked slices, by number, as a reader would."""
    marked = np.flatnonzero(kept.has(key, np.arange(SIZE // SLICE) * SLICE))
    if not len(marked):
        return {}
    file = kept.open(key)
    found = {number: os.pread(file, SLICE, number * SLICE) for number in marked.tolist()}
    os.close(file)
    return found


@given(steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, SIZE // SLICE - 1)), max_size=40))
@settings(max_examples=20, deadline=None)
def test_what_is_marked_was_written(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    """By either of two processes, with slices forgotten and all of them dropped in between."""
    cache = ShardCache(tmp_path_factory.mktemp("cache"), limit_bytes=10 * SIZE)
    both = [KeptSlices(cache), KeptSlices(cache)]
    written: set[int] = set()
    for step, number in steps:
        kept = both[number % 2]
        if step < 2:
            kept.put("a", SIZE, [(number * SLICE, memoryview(content(number)))])
            written.add(number)
        elif step == 2:
            kept.forget("a", number * SLICE)
        else:
            for one in both:
                one.drop("a")
            written.clear()
        for one in both:
            one.find("a", SIZE)
            found = read_marked(one, "a")
            assert written.issuperset(found)
            assert found == {number: content(number) for number in found}
        if step < 2:
            assert number in read_marked(both[0], "a")
            assert number in read_marked(both[1], "a")


WRITER = """
import sys
from pathlib import Path
import numpy as np
from storage.read.cache import ShardCache
from storage.read.kept import KeptSlices
folder, size, slice_bytes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
kept = KeptSlices(ShardCache(folder, limit_bytes=10 * size))
print("ready", flush=True)
for step in range(10**9):
    number = step * 7 % (size // slice_bytes)
    data = np.random.default_rng(number).bytes(slice_bytes)
    kept.put("a", size, [(number * slice_bytes, memoryview(data))])
"""


@pytest.mark.slow  # three processes import numpy
def test_killed_writers_leave_only_whole_slices(tmp_path: Path) -> None:
    moments, kept = random.Random(3), KeptSlices(ShardCache(tmp_path, limit_bytes=10 * SIZE))
    for _ in range(3):
        words = [sys.executable, "-c", WRITER, str(tmp_path), str(SIZE), str(SLICE)]
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(moments.uniform(0.0, 0.01))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kept.find("a", SIZE)
        assert not ShardCache(tmp_path, limit_bytes=10 * SIZE).holds("a")
        found = read_marked(kept, "a")
        assert found == {number: content(number) for number in found}


def test_they_give_way_to_shards_and_stay_within_the_limit(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, limit_bytes=4 * SIZE)
    kept = KeptSlices(cache)
    for key in "abcdefgh":
        for number in range(SIZE // SLICE):
            kept.put(key, SIZE, [(number * SLICE, memoryview(content(number)))])
        kept._written_bytes = 2**30  # so that it looks
    blocks = [path.stat().st_blocks * 512 for path in tmp_path.iterdir()]
    assert sum(blocks) < 6 * SIZE
    for key in ("1", "2", "3", "4"):
        claim = cache.claim(key, SIZE)
        assert claim is not None
        with claim:
            claim.write(bytes(SIZE), 0)
            claim.commit()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".shard"] * 4


def test_what_was_evicted_takes_no_room_and_is_kept_anew(tmp_path: Path) -> None:
    """By another process, which this one has to notice: a mapped file keeps its room."""
    cache = ShardCache(tmp_path, limit_bytes=10 * SIZE)
    kept = KeptSlices(cache)
    for number in (0, 1):
        kept.put("a", SIZE, [(number * SLICE, memoryview(content(number)))])
        other = KeptSlices(cache)
        other.find("a", SIZE)
        assert read_marked(other, "a") == read_marked(kept, "a") == {number: content(number)}
        cache.kept_path("a").unlink()
    kept._written_bytes = 2**30  # so that it looks
    kept.put("b", SIZE, [(0, memoryview(content(0)))])
    assert "a" not in kept._marks


def test_what_is_not_in_the_shard_is_not_kept(tmp_path: Path) -> None:
    """Such as slices of a larger version of it."""
    kept = KeptSlices(ShardCache(tmp_path, limit_bytes=10 * SIZE))
    kept.put("a", SIZE, [(0, memoryview(content(0))), (SIZE - 1, memoryview(content(1)))])
    assert kept.has("a", np.array([0, SIZE - 1, 10 * SIZE])).tolist() == [True, False, False]
    kept.forget("a", 10 * SIZE)
    assert (tmp_path / "a.kept").stat().st_blocks * 512 < SIZE


def test_one_piece_at_a_time_while_ranges_are_on_their_way() -> None:
    async def most_at_once(ranged_bytes: int) -> int:
        line, most = Line(), 0
        line.note_ranged(ranged_bytes)

        async def bring() -> None:
            nonlocal most
            async with line.piece():
                most = max(most, line.num_pieces)
                await asyncio.sleep(0.001)

        await asyncio.gather(*(bring() for _ in range(20)))
        return most

    assert asyncio.run(most_at_once(0)) == PIECES_AT_ONCE
    assert asyncio.run(most_at_once(BUSY_BYTES - 1)) == PIECES_AT_ONCE
    assert asyncio.run(most_at_once(BUSY_BYTES)) == 1


def test_pieces_begin_as_soon_as_ranges_have_come() -> None:
    async def begin() -> int:
        line = Line()
        line.note_ranged(BUSY_BYTES)

        async def bring() -> None:
            async with line.piece():
                await asyncio.sleep(60)

        tasks = [asyncio.ensure_future(bring()) for _ in range(20)]
        await asyncio.sleep(0)
        assert line.num_pieces == 1
        line.note_ranged(-1)
        await asyncio.sleep(0.01)
        found = line.num_pieces
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert line.num_pieces == 0
        return found

    assert asyncio.run(begin()) == PIECES_AT_ONCE


@dataclass
class Far:
    """The same slices on a web server and on this disk."""

    server: StaticServer
    local: FakeSource
    remote: RemoteFake


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    folder = tmp_path_factory.mktemp("far")
    local = write_fake_source(folder / "cells.raw", LENGTHS * 2, seed=1, recipe=RECIPE)
    data = Path(local.url).read_bytes()
    per_object = -(-len(local.cells) // OBJECTS) * local.recipe.slice_bytes
    names = [f"{number}.raw" for number in range(OBJECTS)]
    for number, name in enumerate(names):
        piece = data[number * per_object : (number + 1) * per_object]
        (folder / "www" / name).parent.mkdir(exist_ok=True)
        (folder / "www" / name).write_bytes(piece)
    with StaticServer(folder / "www") as server:
        urls = tuple(f"{server.endpoint}/{name}" for name in names)
        given = {**vars(local), "url": server.endpoint}
        yield Far(server, local, RemoteFake(**given, urls=urls, per_object=per_object))


def finish(config: RemoteConfig) -> None:
    shared = downloads.shared_downloads(config.cache_folder, config)
    background_loop().submit(shared.finish()).result(30)


def read(far: Far, reader: SliceReader | RemoteReader, rows: np.ndarray) -> np.ndarray:
    out = np.empty((len(rows), *far.local.recipe.slice_shape), far.local.recipe.dtype)
    assert reader.try_read(far.remote.extents(rows), out) == []
    return out


def spoil(path: Path, generator: random.Random) -> None:
    """Changes bytes of a file, as a power cut may; cuts it, where it has no mapped end.

    Nothing, where a download that came to its end has deleted it in the meantime.
    """
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        begin = file.seek(generator.randint(0, size))
        file.write(bytes(min(size - begin, size // 3)))
        if path.suffix == ".shard" and generator.random() < 0.5:
            file.truncate(begin)


EVENTS = ("nothing", "spoilt kept", "spoilt shards", "evicted kept", "evicted shards", "finished")


@given(data=st.data())
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_cached_ranged_and_local_reading_give_equal_bytes(
    far: Far, tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    """In any order of rows, with files of the cache changed or deleted at any moment."""
    folder = tmp_path_factory.mktemp("cache")
    config = RemoteConfig(mode=CACHED, cache_dir=str(folder))
    rows = far.local.slice_index()["row"].to_numpy()
    steps = data.draw(st.lists(st.sampled_from(EVENTS), min_size=1, max_size=6))
    generator = random.Random(data.draw(st.integers(0, 2**32)))
    with SliceReader(config) as cached, SliceReader(mode=RANGED) as ranged:
        for event in steps:
            wanted = np.array(generator.choices(rows.tolist(), k=generator.randint(1, 30)))
            expected = far.local.read(wanted)
            assert np.array_equal(read(far, cached, wanted), expected)
            assert np.array_equal(read(far, ranged, wanted), expected)
            kind, _, suffix = event.partition(" ")
            for path in sorted(folder.glob(f"*.{suffix.removesuffix('s')}")) if suffix else ():
                if kind == "spoilt":
                    spoil(path, generator)
                else:
                    path.unlink(missing_ok=True)
            if event == "finished":
                finish(config)
        assert np.array_equal(read(far, cached, rows), far.local.cells)
        finish(config)
    assert not list(folder.glob("*.part"))


@pytest.fixture
def no_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """No download comes to an end."""

    async def fail(*_: object) -> None:
        raise StoreError("the line is gone")

    monkeypatch.setattr(downloads.ShardDownloads, "_fill", fail)


@pytest.mark.usefixtures("no_shards")
def test_a_slice_comes_by_ranges_once_for_all_processes(far: Far, tmp_path: Path) -> None:
    config = RemoteConfig(mode=CACHED, cache_dir=str(tmp_path))
    rows = far.local.slice_index()["row"].to_numpy()
    with SliceReader(config) as reader:
        for _ in range(2):  # the versions are known after the first, all is kept after the second
            read(far, reader, rows)
            finish(config)
        far.server.num_requests = 0
        for _ in range(3):
            assert np.array_equal(read(far, reader, rows[::-1]), far.local.cells[::-1])
        assert far.server.num_requests == 0
    cache = ShardCache(tmp_path, limit_bytes=10**9)
    other = downloads.ShardDownloads(cache, config)  # as another process has it
    other_reader = RemoteReader(config, check=True, downloads=other)
    assert np.array_equal(read(far, other_reader, rows), far.local.cells)
    assert far.server.num_requests <= OBJECTS  # for the versions
    other_reader.close()
    background_loop().submit(other.finish()).result(30)


@pytest.mark.usefixtures("no_shards")
def test_a_disk_slower_than_the_line_keeps_less_and_delays_nothing(
    far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = threading.Event()
    put = KeptSlices.put

    def put_late(*given: Any) -> None:
        written.wait(30)
        put(*given)

    monkeypatch.setattr(KeptSlices, "put", put_late)
    monkeypatch.setattr(downloads, "_UNWRITTEN_BYTES", 10 * far.local.recipe.slice_bytes)
    config = RemoteConfig(mode=CACHED, cache_dir=str(tmp_path))
    rows = far.local.slice_index()["row"].to_numpy()
    with SliceReader(config) as reader:
        read(far, reader, rows[:1])
        shared = downloads.shared_downloads(config.cache_folder, config)
        time.sleep(0.1)  # the versions are known
        for row in rows[:40]:
            assert np.array_equal(read(far, reader, rows[rows == row]), far.local.read([row]))
        assert shared._unwritten_bytes <= 11 * far.local.recipe.slice_bytes
        written.set()
        finish(config)
        assert shared._unwritten_bytes == 0
        assert np.array_equal(read(far, reader, rows), far.local.cells)


@pytest.mark.usefixtures("no_shards")
def test_without_checksums_nothing_is_kept(far: Far, tmp_path: Path) -> None:
    config = RemoteConfig(mode=CACHED, cache_dir=str(tmp_path))
    rows = far.local.slice_index()["row"].to_numpy()
    with SliceReader(config, check=False) as reader:
        for _ in range(2):
            assert np.array_equal(read(far, reader, rows), far.local.cells)
            finish(config)
    assert not list(tmp_path.glob("*.kept"))


def test_a_full_disk_costs_the_cache_alone(
    far: Far, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = RemoteConfig(mode=CACHED, cache_dir=str(tmp_path))
    rows = far.local.slice_index()["row"].to_numpy()
    with largest_file(10_000), SliceReader(config) as reader:
        for _ in range(3):
            assert np.array_equal(read(far, reader, rows), far.local.cells)
            finish(config)
    assert "takes no more shards (File too large)" in caplog.text
    assert not list(tmp_path.glob("*.shard"))
