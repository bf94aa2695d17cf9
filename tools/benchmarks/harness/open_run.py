"""Opens synthetic stores, plans an epoch and reads a first batch, in a process of its own.

    python -m tools.benchmarks.harness.open_run RESULT STARTED CASE STORE POOL CACHE SEED

CACHE is the folder of the shared tables; POOL is a smaller store, which the mixture has too.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from datasets.sampling.candidates import needs_slice_index, slice_columns
from datasets.sampling.config import SamplingConfig
from datasets.sampling.epoch_plan import EpochPlanner
from datasets.slice_source import SliceSource
from datasets.sources.mix import RENAME, MixedSource, SourceMix
from storage.objects.client import RemoteConfig
from storage.store import open_store
from tools.benchmarks.harness.process import PROC, measure

WHERE = "NOT silent AND max_db > -60"
CASES = {
    "one": SamplingConfig(balance="sqrt"),
    "where": SamplingConfig(balance="sqrt", where=WHERE),
    "mix": SamplingConfig(balance="sqrt"),
    "blocks": SamplingConfig(slice_choice="all", order="block"),
}
WEIGHTS = {"own": 0.9, "pool": 0.1}  # of the mixture
BATCH = 64
SAMPLED_EVERY_S = 0.005


def open_and_plan(case: str, store: str, pool: str, cache: str, seed: int) -> dict[str, Any]:
    """Seconds of opening, planning and of the first batch, and bytes of private memory."""
    config, before = CASES[case], _resident("RssAnon")
    shared_before = _resident("RssFile")
    with _peak_of("RssAnon") as peak:
        clock = [time.perf_counter()]
        source = _open(case, store, pool, RemoteConfig(cache_dir=cache))
        recordings, index = source.recordings(), None
        clock.append(time.perf_counter())
        if needs_slice_index(config, recordings):
            index = source.slice_index(slice_columns(config, recordings))
        weights = WEIGHTS if case == "mix" else {}
        plan = EpochPlanner(
            recordings, config, seed=seed, slice_index=index, source_weights=weights
        )(0)
        clock.append(time.perf_counter())
        source.extents(np.sort(plan.rows[plan.rows < BATCH]))  # those of the one zarr shard
        clock.append(time.perf_counter())
    opening_s, planning_s, batch_s = np.diff(clock).tolist()
    return {
        "num_recordings": len(recordings),
        "num_samples": len(plan),
        "opening_s": opening_s,
        "planning_s": planning_s,
        "batch_s": batch_s,
        "private_bytes": peak[0] - before,
        "shared_bytes": _resident("RssFile") - shared_before,
    }


def _open(case: str, store: str, pool: str, remote: RemoteConfig) -> SliceSource:
    own = open_store(store, remote)
    if case != "mix":
        return own
    other = MixedSource(name="pool", source=open_store(pool, remote), shared_ids=RENAME)
    return SourceMix([MixedSource(name="own", source=own), other])


@contextmanager
def _peak_of(entry: str) -> Iterator[list[int]]:
    """Yields a list of one number: the largest value meanwhile of an entry of /proc, bytes."""
    peak, ended = [_resident(entry)], threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLED_EVERY_S):
            peak[0] = max(peak[0], _resident(entry))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _resident(entry: str) -> int:
    """Bytes of this process's memory: RssAnon, its own, or RssFile, of mapped files."""
    lines = Path(PROC / "self" / "status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{entry}:"))


if __name__ == "__main__":
    chosen, own_url, pool_url, folder, number = sys.argv[3:]
    measure(
        sys.argv[1:],
        lambda: open_and_plan(chosen, own_url, pool_url, folder, int(number)),
    )
