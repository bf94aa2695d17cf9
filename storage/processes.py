"""A pool of worker processes that replaces those that are killed, and the number of cores.

Workers are started from a clean server process that has imported what they need, and are given the
environment variables that their parent has by then, such as credentials. They end with their
parent, however that ends, and at once where it is stopped; they leave Ctrl-C to it.
"""

import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.context import BaseContext
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Generic, TypeVar

from storage.errors import StoreError

MAX_POOLS = 4
PROGRESS_S = 0.1
CGROUPS = Path("/sys/fs/cgroup")

OnProgress = Callable[[int], None]
Key = TypeVar("Key", bound=Hashable)
Job = TypeVar("Job")
Report = TypeVar("Report")
_progress: "SimpleQueue[int] | None" = None


def num_cores(cgroups: Path = CGROUPS) -> int:
    """Returns the number of cores that this process may use, at least 1.

    Its affinity (Linux), or all cores; fewer where a container has a quota of CPU time.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _quota(cgroups))))


def _quota(cgroups: Path) -> float:
    """Cores that a container may keep busy, by cgroup version 2 or 1; infinite without a limit."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = " ".join((cgroups / name).read_text(encoding="ascii") for name in names)
            quota, period = map(int, words.split())
        except (OSError, ValueError):  # no cgroup of this version, or `max`
            continue
        return quota / period if quota > 0 and period > 0 else math.inf
    return math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(Generic[Job, Report]):
    """A function of a module's top level that does a job and reports its progress.

    `module` is imported once for all workers; `option` is the config key that sets their number.
    """

    run: Callable[[Job, OnProgress], Report]
    module: str
    option: str


def map_jobs(
    work: Work[Job, Report],
    jobs: Mapping[Key, Callable[[], Job]],
    workers: int,
    on_progress: OnProgress,
) -> Iterator[tuple[Key, Report]]:
    """Does the work for each job and yields each (key, report) as it comes.

    Jobs are made when a worker is about to be free for them; `on_progress` is called at once. One
    worker means this process. Where the operating system kills a worker (memory), a new pool goes
    on with what is left, up to three times; then StoreError.
    """
    if workers <= 1 or len(jobs) <= 1:
        for key, make in jobs.items():
            yield key, work.run(make(), on_progress)
        return
    left = dict(jobs)
    for _ in range(MAX_POOLS):
        try:
            for key, report in _run_pool(work, dict(left), workers, on_progress):
                del left[key]
                yield key, report
        except BrokenProcessPool:
            continue
        return
    raise StoreError(
        f"worker processes were killed {MAX_POOLS} times, most likely by a lack of memory: "
        f"use fewer with {work.option}={max(1, workers // 2)}. What is committed stays"
    )


def _run_pool(
    work: Work[Job, Report],
    jobs: dict[Key, Callable[[], Job]],
    workers: int,
    on_progress: OnProgress,
) -> Iterator[tuple[Key, Report]]:
    context = worker_context(work.module)
    stop, stopper = context.Pipe(duplex=False)
    with stop, stopper, _listening(context, on_progress) as queue:
        pool = ProcessPoolExecutor(
            min(workers, len(jobs)),
            mp_context=context,
            initializer=_begin,
            initargs=(queue, stop, dict(os.environ)),
        )
        try:
            ready = iter(jobs.items())
            waiting: dict[Future[Report], Key] = {}
            while True:
                for key, make in islice(ready, workers + 1 - len(waiting)):
                    waiting[pool.submit(_call, work.run, make())] = key
                if not waiting:
                    return
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), future.result()
        except (KeyboardInterrupt, GeneratorExit):
            stopper.close()  # a job may take minutes, and all of them can be done again
            _end_writing(pool)
            raise
        except BrokenProcessPool:
            _end_writing(pool)
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _end_writing(pool: ProcessPoolExecutor) -> None:
    """Closes this process's reading end of the pool's jobs, so that writing them ends with workers.

    Otherwise a pool waits for ever where its workers end while the pipe is full (CPython gh-94777).
    Python does so by itself since 3.11.5, in a thread of its own, which must not find it closed.
    """
    calls = getattr(pool, "_call_queue", None)
    if calls is not None and sys.version_info < (3, 11, 5):
        calls._reader.close()


def worker_context(module: str) -> BaseContext:
    """Context of workers that need `module`; with a forkserver they import nothing themselves."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([module])
        resource_tracker.ensure_running()  # by itself, as it ends with signals that are not blocked
        # inherited: what a terminal sends to all of its processes is for their parent
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGHUP])
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return context
    return multiprocessing.get_context("spawn")


def prepare_workers(module: str) -> None:
    """Lets the server of workers import `module` now, while this process does something else."""
    worker_context(module)


@contextmanager
def _listening(context: BaseContext, on_progress: OnProgress) -> Iterator["SimpleQueue[int]"]:
    """Queue of the workers' progress, and a thread that passes it on.

    It asks instead of waiting: a worker that was killed may have left half a message, or a lock. A
    thread that has not ended after a second keeps the queue.
    """
    queue: SimpleQueue[int] = context.SimpleQueue()
    ended = threading.Event()

    def listen() -> None:
        is_last = False
        while not is_last:
            is_last = ended.wait(PROGRESS_S)
            while not queue.empty():
                on_progress(queue.get())

    thread = threading.Thread(target=listen, name="progress", daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        ended.set()
        thread.join(timeout=10 * PROGRESS_S)
        if not thread.is_alive():
            queue.close()


def _begin(queue: "SimpleQueue[int]", stop: Connection, variables: dict[str, str]) -> None:
    """Begins a worker process of a pool."""
    global _progress
    _progress = queue
    begin_worker(variables, stop)


def begin_worker(variables: dict[str, str], stop: Connection | None = None) -> None:
    """Begins a worker process, whose parent is a server with the environment of its own start.

    `variables` are those of the program that wants the worker. It ends with its parent, and when
    the other side of `stop` is closed.
    """
    os.environ.clear()
    os.environ.update(variables)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(
        target=_end_with_parent, args=(stop,), name="parent-watch", daemon=True
    ).start()


def _end_with_parent(stop: Connection | None) -> None:
    """Ends this process when its parent has ended, or closes its side of `stop`."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_any([parent.sentinel, *([] if stop is None else [stop])])
        os._exit(1)


def _call(run: Callable[[Job, OnProgress], Report], job: Job) -> Report:
    return run(job, _progress.put if _progress else lambda _: None)
