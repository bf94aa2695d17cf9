"""Remote reading through failures: an epoch delivers exactly the planned samples."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from datasets.loading.reader import BatchReader
from storage.errors import UnreachableError
from storage.objects.client import CACHED, RANGED
from tests.fakes import FakeSource, write_fake_source
from tests.remote_sources import LENGTHS, RemoteFake, check_equal, reader_of, upload
from tests.s3_server import S3
from tools.testbed.fault_proxy import KINDS, STALLED, FaultProxy, Faults


@pytest.fixture
def local(tmp_path: Path) -> FakeSource:
    return write_fake_source(tmp_path / "cells.raw", LENGTHS * 4, seed=1)


@pytest.fixture
def remote(local: FakeSource, s3: S3) -> RemoteFake:
    return upload(local, s3.url("cells"))


@pytest.mark.parametrize(
    ("mode", "direct"),
    [(RANGED, True), pytest.param(RANGED, False, marks=pytest.mark.slow), (CACHED, True)],
)
def test_every_kind_of_failure_changes_nothing(
    remote: RemoteFake,
    local: FakeSource,
    proxy: FaultProxy,
    tmp_path: Path,
    mode: str,
    direct: bool,
) -> None:
    remote = remote.read_with(mode=mode, cache_dir=str(tmp_path / "cache"), direct=direct)
    proxy.faults = Faults(rate=0.05)
    check_equal(remote, local, epochs=2)
    if mode == RANGED:  # cached, there are too few requests for that
        assert set(proxy.counts.faults) == set(KINDS)


def test_a_stall_is_not_waited_for(remote: RemoteFake, proxy: FaultProxy) -> None:
    reader = reader_of(remote)
    next(iter(reader))
    proxy.faults = Faults(rate=0.05, kinds=(STALLED,), stall_s=60.0)
    begin_s = time.monotonic()
    assert len(list(reader_of(remote))) == len(reader)
    assert proxy.counts.faults[STALLED]
    assert time.monotonic() - begin_s < 30


def read_slowly(reader: BatchReader, at_batch: int, do: threading.Thread) -> list[np.ndarray]:
    """All batches; something happens when some have come."""
    slices = []
    for number, batch in enumerate(reader):
        if number == at_batch:
            do.start()
        slices.append(batch.slices.numpy().copy())
    do.join()
    return slices


def test_a_server_that_goes_and_comes_back_is_survived(
    remote: RemoteFake, local: FakeSource, s3: S3
) -> None:
    remote = remote.read_with(prefetch_bytes=0)  # so that much is still to be asked for
    restart = threading.Thread(target=s3.restart, args=(2.0,))
    far = read_slowly(reader_of(remote), 5, restart)
    near = [batch.slices.numpy() for batch in reader_of(local)]
    assert len(far) == len(near)
    assert all(map(np.array_equal, far, near))


def test_a_server_that_stays_away_ends_it_in_time(remote: RemoteFake, s3: S3) -> None:
    remote = remote.read_with(prefetch_bytes=0, timeout_s=3.0)
    kill = threading.Thread(target=s3.kill)
    begin_s = time.monotonic()
    with pytest.raises(UnreachableError, match="nothing answers at http://127"):
        read_slowly(reader_of(remote), 5, kill)
    assert time.monotonic() - begin_s < 20


def test_leaving_the_loop_waits_for_no_answer(remote: RemoteFake, proxy: FaultProxy) -> None:
    remote = remote.read_with(prefetch_bytes=0)
    reader = iter(reader_of(remote))
    next(reader)
    proxy.faults = Faults(latency_s=60.0)
    time.sleep(0.2)
    begin_s = time.monotonic()
    reader.close()
    assert time.monotonic() - begin_s < 5
