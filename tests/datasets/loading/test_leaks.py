"""Hundreds of readers after each other keep neither memory nor threads nor files."""

from contextlib import closing
from pathlib import Path

import psutil
import pytest

from datasets.loading.reader import BatchReader, LoaderConfig
from datasets.sampling.epoch_plan import plan_all
from storage.store import open_store
from tests.small_store import build_small_store

MOST_GROWTH_BYTES = 32e6
MOST_MORE = 8  # pools of libraries, which start threads late; a leak would make hundreds


@pytest.mark.slow
def test_300_epochs_leave_nothing_behind(tmp_path: Path) -> None:
    process, seen = psutil.Process(), []
    config = LoaderConfig(batch_size=8)
    with open_store(str(build_small_store(tmp_path))) as store:
        plan = plan_all(store.recordings())
        for _ in range(300):
            with closing(
                BatchReader(store, lambda _: plan, config, targets=None, train=False)
            ) as it:
                assert sum(len(batch.rows) for batch in it) == len(plan)
            seen.append((process.memory_info().rss, process.num_threads(), process.num_fds()))
    memory, threads, files = zip(*seen[20:], strict=True)
    assert memory[-1] - memory[0] < MOST_GROWTH_BYTES
    assert threads[-1] <= threads[0] + MOST_MORE
    assert files[-1] <= files[0] + MOST_MORE
