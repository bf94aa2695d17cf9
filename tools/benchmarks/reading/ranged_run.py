"""Reads slices by ranges from a web server, in a process of its own.

    python -m tools.benchmarks.reading.ranged_run RESULT STARTED WAY URL EPOCHS

CPU time is that of all threads of this process, user and system; the server's is its own.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import obstore

from datasets.loading.config import LoaderConfig
from datasets.loading.reader import BatchReader
from datasets.sampling.config import SamplingConfig
from datasets.sampling.epoch_plan import EpochPlanner
from datasets.shards.shard_set import open_shards
from storage.objects.client import RANGED, RemoteConfig, open_remote
from storage.objects.keep_alive import RangeRequest, RangeServer
from storage.read.extents import Extents
from storage.store import open_store
from tools.benchmarks.harness.process import measure

Epoch = Callable[[int], int]  # reads the epoch of a number; returns its number of slices
BATCH, THREADS, CONNECTIONS = 64, 32, 256
CONNECT_S = 5.0
SAMPLING = SamplingConfig(slice_choice="random")


def ours(url: str, *, direct: bool = True) -> Epoch:
    """Batches of our reader, of the store or the tars at `url`."""
    config = RemoteConfig(mode=RANGED, direct=direct)
    source = open_store(url, config) if url.endswith("store") else open_shards(url, config)
    recordings = source.recordings()
    planner = EpochPlanner(recordings, SAMPLING, seed=1)
    loader = LoaderConfig(batch_size=min(BATCH, len(recordings)))
    reader = BatchReader(source, planner, loader, targets=None, train=True)

    def read(epoch: int) -> int:
        reader.set_epoch(epoch)
        return sum(len(batch.rows) for batch in reader)

    return read


def ours_by_obstore(url: str) -> Epoch:
    """The same with obstore as the only client."""
    return ours(url, direct=False)


def obstore_alone(url: str) -> Epoch:
    """The same ranges by `obstore.get_range` in threads, into one array; nothing is checked."""
    extents = _extents(url)

    def read(epoch: int) -> int:
        wanted = extents(epoch)
        parts = urlsplit(url)
        remote = open_remote(f"{parts.scheme}://{parts.netloc}")
        out = np.empty((BATCH, int(wanted.length.max())), np.uint8)

        def get(number: int) -> None:
            begin, length = int(wanted.offset[number]), int(wanted.length[number])
            key = urlsplit(wanted.object_of(number)).path.lstrip("/")
            data = obstore.get_range(remote.store, key, start=begin, length=length)
            out[number % BATCH, :length].data[:] = memoryview(data)

        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(get, range(len(wanted))))
        return len(wanted)

    return read


def connections_alone(url: str) -> Epoch:
    """The same ranges over the connections of our reader, into one array; nothing is checked."""
    extents, parts = _extents(url), urlsplit(url)
    loop = asyncio.new_event_loop()

    async def connect() -> RangeServer:
        return RangeServer(parts.scheme, parts.hostname or "", parts.port or 80, CONNECT_S)

    server = loop.run_until_complete(connect())
    return lambda epoch: loop.run_until_complete(_ask_all(server, extents(epoch)))


async def _ask_all(server: RangeServer, wanted: Extents) -> int:
    """Asks for all extents, so many at a time."""
    out = np.empty((BATCH, int(wanted.length.max())), np.uint8)
    done, numbers, left = asyncio.Event(), iter(range(len(wanted))), len(wanted)

    def ask(number: int) -> None:
        begin, length = int(wanted.offset[number]), int(wanted.length[number])

        def take(body: memoryview | None) -> None:
            nonlocal left
            if body is None:
                raise OSError(f"no plain answer for {wanted.object_of(number)}")
            out[number % BATCH, :length].data[:] = body
            left -= 1
            if (following := next(numbers, None)) is not None:
                ask(following)
            elif not left:
                done.set()

        path = urlsplit(wanted.object_of(number)).path
        server.ask(RangeRequest(target=path, begin=begin, end=begin + length, answer=take))

    for number in list(islice(numbers, CONNECTIONS)):
        ask(number)
    await done.wait()
    return len(wanted)


def _extents(url: str) -> Callable[[int], Extents]:
    """Returns a function from the number of an epoch to the extents of its slices."""
    source = open_shards(url, RemoteConfig(mode=RANGED))
    planner = EpochPlanner(source.recordings(), SAMPLING, seed=1)
    return lambda epoch: source.extents(planner(epoch).rows)


WAYS: dict[str, Callable[[str], Epoch]] = {
    "ours": ours,
    "ours_by_obstore": ours_by_obstore,
    "obstore_alone": obstore_alone,
    "connections_alone": connections_alone,
}


def main(argv: Sequence[str]) -> None:
    """Reads one epoch before the clock starts, then `EPOCHS` of them."""
    way, url, num_epochs = argv[2], argv[3], int(argv[4])

    def work() -> dict[str, Any]:
        read = WAYS[way](url)
        read(0)
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        count = sum(read(epoch) for epoch in range(1, num_epochs + 1))
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        return {"cpu_us": 1e6 * cpu_s / count, "slices_per_s": count / wall_s}

    measure(argv, work)


if __name__ == "__main__":
    main(sys.argv[1:])
