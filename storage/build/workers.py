"""Maps jobs, such as the building of parts, over processes: a pool here, or a Dask cluster.

Worker processes are started from a clean server process that has imported what they need. They
end with their parent, however that ends, and leave Ctrl-C to it.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing.context import BaseContext
from multiprocessing.queues import SimpleQueue
from typing import Any, Generic, TypeVar

from storage.build.dask import build_on_cluster, check_cluster
from storage.build.jobs import PartJob, PartReport
from storage.errors import StoreError
from storage.objects.client import adopt_environment, remote_environment

MAX_POOLS = 4
LOCAL = "local"

OnSlices = Callable[[int], None]
Key = TypeVar("Key", bound=Hashable)
Job = TypeVar("Job")
Report = TypeVar("Report")
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
    work = Work(run=_build_part, module="storage.build.part", option="build.workers")
    makers = {job.range.part: partial(_as_it_is, job) for job in jobs}
    for _, report in map_jobs(work, makers, workers, on_slices):
        yield report


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(Generic[Job, Report]):
    """What workers do with a job: a function of a module's top level, which tells of progress.

    `module` is what it needs, imported once for all workers; `option` says how many there are.
    """

    run: Callable[[Job, OnSlices], Report]
    module: str
    option: str


def map_jobs(
    work: Work[Job, Report],
    jobs: Mapping[Key, Callable[[], Job]],
    workers: int,
    on_slices: OnSlices,
) -> Iterator[tuple[Key, Report]]:
    """Does the work for each job and yields each (key, report) as it comes.

    Jobs are made when a worker is about to be free for them. One worker means this process.
    Killed workers are replaced as in `build_parts`.
    """
    if workers <= 1 or len(jobs) <= 1:
        for key, make in jobs.items():
            yield key, work.run(make(), on_slices)
        return
    left = dict(jobs)
    for _ in range(MAX_POOLS):
        try:
            for key, report in _run_pool(work, dict(left), workers, on_slices):
                del left[key]
                yield key, report
        except BrokenProcessPool:
            continue
        return
    raise StoreError(
        f"worker processes were killed {MAX_POOLS} times, most likely for want of memory: "
        f"use fewer with {work.option}={max(1, workers // 2)}. What is committed stays"
    )


def _run_pool(
    work: Work[Job, Report],
    jobs: dict[Key, Callable[[], Job]],
    workers: int,
    on_slices: OnSlices,
) -> Iterator[tuple[Key, Report]]:
    context = _context(work.module)
    with _listening(context, on_slices) as queue:
        pool = ProcessPoolExecutor(
            min(workers, len(jobs)),
            mp_context=context,
            initializer=_begin,
            initargs=(queue, remote_environment()),
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
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _context(module: str) -> BaseContext:
    """forkserver where there is one: workers then need no import of their own."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([module])
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


def _begin(queue: "SimpleQueue[int]", variables: dict[str, str]) -> None:
    """First thing in a worker process, which is a child of a server started long before."""
    global _progress
    adopt_environment(variables)
    _progress = queue
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(run: Callable[[Job, OnSlices], Report], job: Job) -> Report:
    return run(job, _progress.put if _progress else lambda _: None)


def _build_part(job: PartJob, on_slices: OnSlices) -> PartReport:
    from storage.build.part import build_part  # with workers, only they pay for importing torch

    return build_part(job, on_slices)


def _as_it_is(job: PartJob) -> PartJob:
    return job
