"""Decodes recordings ahead of the model, in worker processes, and hands on their windows.

    with open_loader(jobs, plan, workers=3) as messages:
        for message in messages: ...

Recordings are given out in order, one at a time to each worker; their chunks come as they are
made, those of one recording in order. A worker waits where the model is slower: there are never
more than a few chunks under way. Nothing but reading is done here, so a worker may end at any time.
"""

import os
import queue
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from storage.errors import AudioError, ObjectMissingError, StoreError, check_machine
from storage.objects.client import RemoteConfig
from storage.processes import begin_worker, worker_context
from storage.source.files import RecordingFiles, file_name
from training.inference.reading.messages import Chunk, Ended, Message, Rejected

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from training.inference.reading.windows import Window, WindowCutter, WindowPlan

CHUNK_WINDOWS = 32
CHUNK_BYTES = 8 << 20
WORKER_MODULE = "training.inference.reading.windows"
LOOK_S = 0.1  # between two looks at whether to stop
END_S = 5.0  # for a worker to end by itself
LOST = (
    "a process that decodes was ended from outside, most likely by a lack of memory: use fewer "
    "with predict.workers, then run this again: it goes on"
)


class Job(NamedTuple):
    """A recording to decode."""

    recording_no: int
    path: str


class _Maker:
    """Makes the messages of recordings, in whatever process it is."""

    def __init__(self, cutter: "WindowCutter", plan: "WindowPlan", remote: RemoteConfig) -> None:
        self._cutter = cutter
        self._recipe = plan.recipe
        self._files = RecordingFiles(remote)

    def make(self, job: Job) -> Iterator[Message]:
        """Yields the messages of a recording; StoreError where an object store fails."""
        try:
            with self._files.open(job.path) as file:
                recording = self._cutter.open(file)
                windows, first = iter(recording), 0
                while group := _group(windows):
                    yield self._chunk(job.recording_no, group, first)
                    first += len(group)
                decoder = recording.decoder
                yield Ended(
                    recording_no=job.recording_no,
                    num_windows=first,
                    duration_s=decoder.duration_s,
                    sample_rate_hz=decoder.header.sample_rate_hz if decoder.header else None,
                    problem=decoder.problem,
                )
        except ObjectMissingError:
            reason = f"there is no such file: {file_name(job.path)}"
            yield Rejected(recording_no=job.recording_no, reason=reason)
        except StoreError:
            raise
        except (AudioError, OSError) as error:
            if isinstance(error, OSError):
                check_machine(error)
            yield Rejected(recording_no=job.recording_no, reason=str(error))

    def _chunk(self, recording_no: int, group: "list[Window]", first: int) -> Chunk:
        starts = np.arange(first, first + len(group)) * self._recipe.step_samples
        return Chunk(
            recording_no=recording_no,
            cells=tuple(map(np.stack, zip(*(window.cells for window in group), strict=True))),
            start_s=starts / self._recipe.sample_rate_hz,
            silent=np.array([window.silent for window in group]),
        )


def _group(windows: "Iterator[Window]") -> "list[Window]":
    """The next windows, of CHUNK_BYTES at most where they are large; none at the end."""
    group = list(islice(windows, 1))
    if group:
        size = sum(cells.nbytes for cells in group[0].cells)
        group += islice(windows, min(CHUNK_WINDOWS, max(1, CHUNK_BYTES // size)) - 1)
    return group


@contextmanager
def open_loader(
    jobs: Sequence[Job], plan: "WindowPlan", *, workers: int, remote: RemoteConfig
) -> Iterator[Iterable[Message]]:
    """The messages of all recordings; raises StoreError where an object store or a worker fails.

    `workers=0` decodes in this process, when the next message is asked for.
    """
    if not workers:
        yield _load_here(jobs, plan, remote)
        return
    pool = _Workers(jobs, plan, remote)
    try:
        pool.start(min(workers, max(1, len(jobs))))
        yield pool.messages()
    finally:
        pool.stop()


def _load_here(jobs: Iterable[Job], plan: "WindowPlan", remote: RemoteConfig) -> Iterator[Message]:
    from training.inference.reading.windows import WindowCutter

    maker = _Maker(WindowCutter(plan), plan, remote)
    for job in jobs:
        messages = maker.make(job)
        while (message := _next_on_one_thread(messages)) is not None:
            yield message


def _next_on_one_thread(messages: Iterator[Message]) -> Message | None:
    """The next message, made as a worker makes it: torch sums in another order on more threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return next(messages, None)
    finally:
        torch.set_num_threads(threads)


class _Workers:
    """Worker processes, and a thread for each that gives it jobs and takes its messages."""

    def __init__(self, jobs: Sequence[Job], plan: "WindowPlan", remote: RemoteConfig) -> None:
        self._jobs = iter(jobs)
        self._lock = threading.Lock()
        self._plan = plan
        self._remote = remote
        self._stopped = threading.Event()
        self._queue: queue.Queue[Message | StoreError | None] = queue.Queue(2)
        self._processes: list[BaseProcess] = []
        self._threads: list[threading.Thread] = []

    def start(self, workers: int) -> None:
        """Starts so many processes."""
        context = worker_context(WORKER_MODULE)
        make = context.Process  # type: ignore[attr-defined]  # each kind of context has one
        for number in range(workers):
            ours, theirs = context.Pipe()
            given = (theirs, self._plan, self._remote, dict(os.environ))
            process: BaseProcess = make(target=_serve, args=given, daemon=True)
            process.start()
            theirs.close()  # so that the end of the process is seen
            thread = threading.Thread(target=self._take, args=(ours,), name=f"decoder-{number}")
            thread.daemon = True
            thread.start()
            self._processes.append(process)
            self._threads.append(thread)

    def messages(self) -> Iterator[Message]:
        """Yields messages until all workers are done."""
        left = len(self._threads)
        while left:
            message = self._queue.get()
            if isinstance(message, StoreError):
                raise message
            if message is None:
                left -= 1
            else:
                yield message

    def stop(self) -> None:
        """Ends all workers: those at work notice at their next message that nobody listens."""
        self._stopped.set()
        for thread, process in zip(self._threads, self._processes, strict=True):
            thread.join(END_S)
            if thread.is_alive():  # the worker waits for something
                process.terminate()
                thread.join()
        for process in self._processes:
            process.join(END_S)
            if process.is_alive():
                process.kill()
                process.join()

    def _take(self, connection: Connection) -> None:
        """Gives jobs to a worker, the next one while it is at work, and takes its messages."""
        with connection:
            try:
                under_way = self._give(connection) + self._give(connection)
                while under_way and not self._stopped.is_set():
                    message = connection.recv()
                    if message is None:
                        under_way += self._give(connection) - 1
                    else:
                        self._put(message)
                self._put(None)
            except (OSError, EOFError):
                self._put(StoreError(LOST))

    def _give(self, connection: Connection) -> int:
        """Sends the next job; returns the number of jobs sent, 0 after the last one."""
        with self._lock:
            job = next(self._jobs, None)
        if job is None:
            return 0
        connection.send(job)
        return 1

    def _put(self, message: Message | StoreError | None) -> None:
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self._queue.put(message, timeout=LOOK_S)
                return


def _serve(
    connection: Connection, plan: "WindowPlan", remote: RemoteConfig, variables: dict[str, str]
) -> None:
    """Runs in a worker: messages of each job that comes, then None."""
    begin_worker(variables)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # temporary files are removed
    import torch

    from training.inference.reading.windows import WindowCutter

    torch.set_num_threads(1)
    maker = _Maker(WindowCutter(plan), plan, remote)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # nobody listens any more
        while True:
            job = connection.recv()
            try:
                for message in maker.make(job):
                    connection.send(message)
            except StoreError as error:
                connection.send(StoreError(str(error)))
            connection.send(None)
