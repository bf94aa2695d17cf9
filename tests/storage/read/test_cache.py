"""storage.read.cache: what is read is whole, killed processes leave nothing, the limit holds."""

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.read.cache import ShardCache, shard_key
from tests.paths import ROOT

SIZE = 200_000  # bytes of a shard


def content(key: str, size_bytes: int = SIZE) -> bytes:
    return np.random.default_rng(int(key[:8], 16)).bytes(size_bytes)


def key_of(number: int) -> str:
    return shard_key(f"s3://bucket/shard-{number}", size_bytes=SIZE, version="1")


def put(cache: ShardCache, key: str, size_bytes: int = SIZE) -> bool:
    """Writes a shard as a download does, piece by piece; True where it was written."""
    claim = cache.claim(key, size_bytes)
    if claim is None:
        return False
    with claim:
        data = content(key, size_bytes)
        for begin in range(0, size_bytes, 30_000):
            claim.write(data[begin : begin + 30_000], begin)
        claim.commit()
    return True


def get(cache: ShardCache, key: str, size_bytes: int = SIZE) -> bytes | None:
    file = cache.open(key, size_bytes)
    if file is None:
        return None
    try:
        return os.pread(file, size_bytes + 1, 0)
    finally:
        os.close(file)


def names(cache: ShardCache) -> list[str]:
    return sorted(os.listdir(cache.folder))


def test_what_was_put_is_there_once(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "new" / "folder", limit_bytes=10 * SIZE)
    assert get(cache, key_of(1)) is None
    assert put(cache, key_of(1))
    assert get(cache, key_of(1)) == content(key_of(1))
    assert not put(cache, key_of(1))
    assert names(cache) == [f"{key_of(1)}.shard"]


def test_another_version_is_another_shard() -> None:
    keys = {
        shard_key(url, size_bytes=size_bytes, version=version)
        for url in ("s3://a/b", "s3://a/c")
        for size_bytes in (1, 2)
        for version in ("x", "y")
    }
    assert len(keys) == 8


def test_what_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, limit_bytes=SIZE)
    with cache.claim(key_of(1), SIZE) as claim:
        claim.write(b"half", 0)
        assert get(cache, key_of(1)) is None
    assert names(cache) == []
    assert put(cache, key_of(1))


def test_one_at_a_time_writes_a_shard(tmp_path: Path) -> None:
    first, second = ShardCache(tmp_path, limit_bytes=SIZE), ShardCache(tmp_path, limit_bytes=SIZE)
    with first.claim(key_of(1), SIZE):
        assert second.claim(key_of(1), SIZE) is None
        second.clear_leftovers()
        assert len(names(first)) == 1
    with second.claim(key_of(1), SIZE) as claim:
        assert claim is not None


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, limit_bytes=3 * SIZE)
    for number in range(3):
        put(cache, key_of(number))
        time.sleep(0.01)
    assert get(cache, key_of(0)) is not None
    put(cache, key_of(3))
    assert [cache.holds(key_of(number)) for number in range(4)] == [True, False, True, True]


def test_an_evicted_shard_stays_readable_to_who_has_it_open(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, limit_bytes=SIZE)
    put(cache, key_of(1))
    file = cache.open(key_of(1), SIZE)
    put(cache, key_of(2))
    assert not cache.holds(key_of(1))
    assert os.pread(file, SIZE, 0) == content(key_of(1))
    os.close(file)


def test_a_shard_larger_than_the_cache_evicts_nothing(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, limit_bytes=SIZE)
    put(cache, key_of(1))
    assert cache.claim(key_of(2), SIZE + 1) is None
    assert cache.holds(key_of(1))


def test_what_is_under_way_counts_as_a_whole(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, limit_bytes=2 * SIZE)
    with cache.claim(key_of(1), SIZE), cache.claim(key_of(2), SIZE):
        assert cache.claim(key_of(3), SIZE) is None


def test_a_shard_that_lost_its_end_is_not_used(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, limit_bytes=2 * SIZE)
    put(cache, key_of(1))
    os.truncate(tmp_path / f"{key_of(1)}.shard", SIZE - 1)
    assert get(cache, key_of(1)) is None
    assert put(cache, key_of(1))


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=30), limit=st.integers(20, 120))
def test_the_limit_holds_after_each_step(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int
) -> None:
    cache = ShardCache(tmp_path_factory.mktemp("cache"), limit_bytes=limit)
    for number, size_bytes in enumerate(sizes):
        assert put(cache, key_of(number), size_bytes) == (size_bytes <= limit)
        assert sum(path.stat().st_size for path in cache.folder.iterdir()) <= limit
        assert cache.holds(key_of(number)) == (size_bytes <= limit)


WRITER = """
import sys, time
from pathlib import Path
from storage.read.cache import ShardCache
from tests.storage.read.test_cache import SIZE, content, get, key_of
folder, limit, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
cache = ShardCache(folder, limit_bytes=limit)
print("ready", flush=True)
for step in range(seed, seed + 100_000):
    key = key_of(step * 7 % 23)
    found = get(cache, key)
    if found is None and (claim := cache.claim(key, SIZE)):
        with claim:
            data = content(key)
            for begin in range(0, SIZE, 10_000):
                claim.write(data[begin : begin + 10_000], begin)
                time.sleep(0.001)
            claim.commit()
    elif found is not None and found != content(key):
        sys.exit("a shard with wrong bytes")
"""


def start_writer(folder: Path, limit_bytes: int, seed: int) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-c", WRITER, str(folder), str(limit_bytes), str(seed)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def check_sound(cache: ShardCache) -> None:
    """Every shard that a reader would take has its bytes."""
    for number in range(23):
        assert get(cache, key_of(number)) in (None, content(key_of(number)))


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_writers_leave_no_bad_shard_and_no_lock(tmp_path: Path, kills: int) -> None:
    cache = ShardCache(tmp_path, limit_bytes=8 * SIZE)
    moments = random.Random(5)
    for seed in range(kills):
        process = start_writer(tmp_path, 8 * SIZE, seed)
        time.sleep(moments.uniform(0.005, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        left = [name for name in names(cache) if name.endswith(".part")]
        check_sound(cache)
        for name in left:  # each is free at once
            key, size, _ = name.split(".")
            claim = cache.claim(key, int(size))
            assert claim is not None
            claim.close()
        assert not [name for name in names(cache) if name.endswith(".part")]


@pytest.mark.slow
def test_processes_share_a_folder_within_its_limit(tmp_path: Path) -> None:
    limit = 5 * SIZE
    writers = [start_writer(tmp_path, limit, seed) for seed in (0, 400, 900)]
    largest, end_s = 0, time.monotonic() + 3
    while time.monotonic() < end_s:
        total = 0
        for entry in os.scandir(tmp_path):
            with suppress(FileNotFoundError):
                total += entry.stat().st_size
        largest = max(largest, total)
    assert [writer.poll() for writer in writers] == [None] * 3  # none met wrong bytes
    for writer in writers:
        writer.kill()
        writer.communicate()
    assert SIZE < largest <= limit + SIZE
    check_sound(ShardCache(tmp_path, limit_bytes=limit))


def test_threads_of_one_process_share_it_too(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, limit_bytes=30 * SIZE)
    wrote: list[int] = []

    def write_all(seed: int) -> None:
        order = random.Random(seed).sample(range(23), 23)
        wrote.extend(number for number in order if put(cache, key_of(number)))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write_all, range(4)))
    assert sorted(wrote) == list(range(23))
    check_sound(cache)
