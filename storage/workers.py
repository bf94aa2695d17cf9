"""Maps part jobs over processes: a pool on this machine, or a Dask cluster.

Worker processes are started from a clean server process that has imported what they need. They
end with their parent, however that ends, and leave Ctrl-C to it.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from multiprocessing.queues import SimpleQueue
from typing import Any

from storage.dask_cluster import build_on_cluster, check_cluster
from storage.errors import StoreError
from storage.part_job import PartJob, PartReport

MAX_POOLS = 4
LOCAL = "local"

OnSlices = Callable[[int], None]
_progress: "SimpleQueue[int] | None" = None


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_executor(executor: str) -> None:
    """Raises ConfigError unless `executor` is local or dask://HOST:PORT."""
    if executor != LOCAL:
        check_cluster(executor)


def build_parts(
    jobs: list[PartJob], workers: int, on_slices: OnSlices, executor: str = LOCAL
) -> Iterator[PartReport]:
    """Builds parts and yields each report as it comes; `on_slices` hears of progress at once.

    One worker means this process. Where the operating system kills a worker (memory), a new pool
    goes on with what is left, up to three times. A cluster has as many workers as it has, and
    tells of whole parts only.
    """
    if executor != LOCAL:
        yield from build_on_cluster(jobs, executor, on_slices)
        return
    if workers <= 1 or len(jobs) <= 1:
        from storage.part import build_part  # with workers, only they pay for importing torch

        for job in jobs:
            yield build_part(job, on_slices)
        return
    left = {job.range.part: job for job in jobs}
    for _ in range(MAX_POOLS):
        try:
            for report in _run_pool(list(left.values()), workers, on_slices):
                del left[report.part]
                yield report
        except BrokenProcessPool:
            continue
        return
    raise StoreError(
        f"worker processes were killed {MAX_POOLS} times, most likely for want of memory: "
        f"use fewer with build.workers={max(1, workers // 2)}. What is committed stays"
    )


def _run_pool(jobs: list[PartJob], workers: int, on_slices: OnSlices) -> Iterator[PartReport]:
    context = _context()
    with _listening(context, on_slices) as queue:
        pool = ProcessPoolExecutor(
            min(workers, len(jobs)), mp_context=context, initializer=_begin, initargs=(queue,)
        )
        try:
            waiting: set[Future[PartReport]] = {pool.submit(_build, job) for job in jobs}
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _context() -> BaseContext:
    """forkserver where there is one: workers then need no import of their own."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["storage.part"])
        return context
    return multiprocessing.get_context("spawn")


@contextmanager
def _listening(context: BaseContext, on_slices: OnSlices) -> Iterator["SimpleQueue[int]"]:
    """A queue on which workers report slices, and a thread that passes them on."""
    queue: SimpleQueue[Any] = context.SimpleQueue()

    def listen() -> None:
        while (count := queue.get()) is not None:
            on_slices(count)

    thread = threading.Thread(target=listen, name="build-progress", daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        queue.put(None)
        thread.join()
        queue.close()


def _begin(queue: "SimpleQueue[int]") -> None:
    """First thing in a worker process."""
    global _progress
    _progress = queue
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _build(job: PartJob) -> PartReport:
    from storage.part import build_part  # in the worker: see build_parts

    return build_part(job, _progress.put if _progress else lambda _: None)
