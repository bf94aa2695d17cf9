"""Extents are read as they are, given as they were asked for, and bad ones are named."""

import os
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from storage.checksums import crc32c
from storage.errors import DamageError
from storage.read.extents import MAX_OPEN_FILES, RAW, ExtentReader, Extents
from tools.benchmarks.harness.page_cache import evict, resident_pages

SHAPE = (4, 5)
PER_FILE = 3


def write_files(folder: Path, num_files: int) -> tuple[Extents, np.ndarray]:
    """Raw slices in files of three after a header, and their extents."""
    rng = np.random.default_rng(7)
    cells = rng.integers(256, size=(num_files * PER_FILE, *SHAPE), dtype=np.uint8)
    names = []
    for number in range(num_files):
        path = folder / f"{number}.raw"
        path.write_bytes(b"head" + cells[number * PER_FILE : (number + 1) * PER_FILE].tobytes())
        names.append(str(path))
    size = cells[0].nbytes
    extents = Extents(
        objects=tuple(names),
        object_no=np.repeat(np.arange(num_files, dtype=np.int32), PER_FILE),
        offset=4 + np.tile(np.arange(PER_FILE) * size, num_files),
        length=np.full(len(cells), size),
        crc32c=np.array([crc32c(one) for one in cells], np.uint32),
        codecs=(RAW,) * num_files,
    )
    return extents, cells


def read(reader: ExtentReader, extents: Extents) -> np.ndarray:
    out = np.empty((len(extents), *SHAPE), np.uint8)
    reader.read(extents, out)
    return out


def num_open(folder: Path) -> int:
    handles = Path("/proc/self/fd")
    if not handles.exists():
        pytest.skip("only Linux shows which files are open")
    return sum(
        os.path.realpath(handle).startswith(str(folder.resolve())) for handle in handles.iterdir()
    )


def test_any_order_with_repeats_is_given_as_asked(tmp_path: Path) -> None:
    extents, cells = write_files(tmp_path, 5)
    wanted = np.random.default_rng(3).integers(len(cells), size=40)
    with ExtentReader() as reader:
        assert np.array_equal(read(reader, extents[wanted]), cells[wanted])
        assert read(reader, extents[wanted[:0]]).shape == (0, *SHAPE)


def test_more_files_than_may_stay_open(tmp_path: Path) -> None:
    extents, cells = write_files(tmp_path, MAX_OPEN_FILES + 20)
    wanted = np.random.default_rng(4).permutation(len(cells))
    with ExtentReader() as reader:
        for _ in range(2):
            reader.will_need(extents[wanted])
            assert np.array_equal(read(reader, extents[wanted]), cells[wanted])
        assert num_open(tmp_path) == MAX_OPEN_FILES
    assert num_open(tmp_path) == 0


def test_a_file_that_is_being_read_is_not_closed(tmp_path: Path) -> None:
    extents, cells = write_files(tmp_path, MAX_OPEN_FILES + 1)
    with ExtentReader() as reader:
        held = reader._open(extents.objects[0])
        read(reader, extents)  # another thread, say: the first file is the first to go
        assert os.pread(held.descriptor, cells[0].nbytes, 4) == cells[0].tobytes()
        del held
        assert num_open(tmp_path) == MAX_OPEN_FILES


def test_bad_extents_are_named_in_the_order_asked(tmp_path: Path) -> None:
    extents, cells = write_files(tmp_path, 4)
    (tmp_path / "2.raw").unlink()
    with (tmp_path / "1.raw").open("r+b") as file:
        file.seek(4)
        file.write(bytes([cells[3].flat[0] ^ 1]))
    wanted = np.array([7, 0, 3, 11, 6])
    out = np.ones((5, *SHAPE), np.uint8)
    with ExtentReader() as reader:
        bad = reader.try_read(extents[wanted], out)
        with pytest.raises(DamageError, match="3 of 5 slices cannot be read; the first is in"):
            reader.read(extents[wanted], out)
    assert [one.position for one in bad] == [0, 2, 4]
    assert [Path(one.object).name for one in bad] == ["2.raw", "1.raw", "2.raw"]
    assert ["missing" in one.reason for one in bad] == [True, False, True]
    assert not out[[0, 2, 4]].any()
    assert np.array_equal(out[[1, 3]], cells[[0, 11]])


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="there is nothing to ask")
def test_the_kernel_is_asked_only_where_reading_comes_from_the_disk(tmp_path: Path) -> None:
    size, far = 40_000, 16_000_000  # bytes; no read-ahead goes so far
    path = tmp_path / "cells.raw"
    path.write_bytes(np.random.default_rng(2).bytes(far + size))
    if evict(path):
        pytest.skip("this disk is memory")
    near, behind = (
        Extents(
            objects=(str(path),),
            object_no=np.zeros(1, np.int32),
            offset=np.array([offset]),
            length=np.array([size]),
            crc32c=np.zeros(1, np.uint32),
            codecs=(RAW,),
        )
        for offset in (0, far)
    )

    def announce() -> list[bool]:
        """True where the second slice was fetched, after the first was read and before."""
        fetched = []
        with ExtentReader(check=False) as reader, path.open("rb") as file:
            for _ in range(2):
                reader.will_need(behind)
                time.sleep(0.1)
                fetched.append(bool(resident_pages(file.fileno())[-1]))
                reader.read(near, np.empty((1, size), np.uint8))
        return fetched

    with ThreadPoolExecutor(1) as fresh_thread:  # which has not read from the disk
        assert fresh_thread.submit(announce).result() == [False, True]
    assert not evict(path)
    with path.open("rb") as file:
        file.read(size)
    with ThreadPoolExecutor(1) as fresh_thread:
        assert fresh_thread.submit(announce).result() == [False, False]


def highest_open() -> int:
    return max(int(handle.name) for handle in Path("/proc/self/fd").iterdir())


@contextmanager
def most_files(count: int) -> Iterator[None]:
    """This process may open no more than so many files beyond those that it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest_open() + 1 + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_files_than_a_process_may_open_are_read(tmp_path: Path) -> None:
    num_open(tmp_path)  # skips the test elsewhere than on Linux
    extents, cells = write_files(tmp_path, 40)
    with ExtentReader() as reader, most_files(10):  # the reader knows of no limit
        assert np.array_equal(read(reader, extents), cells)


def test_a_reader_leaves_half_of_the_files_to_others(tmp_path: Path) -> None:
    num_open(tmp_path)
    count = highest_open() + 20  # so that half of the limit is more than the process has
    extents, cells = write_files(tmp_path, 2 * count)
    with most_files(count), ExtentReader() as reader:
        assert np.array_equal(read(reader, extents), cells)
        assert 10 <= num_open(tmp_path) <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
