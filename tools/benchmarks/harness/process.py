"""Runs a Python module in a separate process and measures it with all its descendants.

A measured process leads a session, in which its workers stay: their CPU time and memory are read
by psutil, by the process itself where its work begins and ends, and from outside meanwhile.
CPU time comes in ticks of 10 ms. Peaks are the VmHWM of /proc: psutil has no peak on Linux, and
the ru_maxrss of a process begins with the peak of the process that started it.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from storage.errors import ConfigError, StoreError
from tools.cli.checkout import ROOT

PROC = Path("/proc")
WATCH_EVERY_S = 0.1
SETTLE_S = 0.2  # until workers that have ended are accounted for
# Held to these, no library takes more than one core for itself.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Cost of a measured process.

    Startup is all from its start to the end of its imports, work what follows; CPU seconds are
    those of all its processes together. `peak_bytes` is the largest resident size that any one of
    them reached, `imports_bytes` that of the largest where the work began.
    """

    startup_s: float
    startup_cpu_s: float
    work_s: float
    work_cpu_s: float
    whole_s: float
    peak_bytes: int
    imports_bytes: int
    answer: dict[str, Any]


def check_measurable() -> None:
    """Raises ConfigError on systems without /proc."""
    if not (PROC / "self" / "status").exists():
        raise ConfigError("this benchmark reads memory and reads from /proc: run it on Linux")


def run_measured(module: str, arguments: Sequence[str], *, one_thread: bool = True) -> Measured:
    """Runs `python -m module RESULT STARTED arguments...`, which ends with `measure`.

    `one_thread` holds the numeric libraries to one thread in each process.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(result), str(started), *arguments],
            cwd=ROOT,
            env={**os.environ, **(ONE_THREAD if one_thread else {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        with _MemoryWatch(process.pid) as watch:
            output, _ = process.communicate()
        whole_s = time.monotonic() - started
        if process.returncode:
            last = output.strip().splitlines()[-1:] or ["no output"]
            raise StoreError(f"{module} {' '.join(arguments)} failed: {last[0]}")
        measured = json.loads(result.read_text(encoding="utf-8"))
    measured["peak_bytes"] = max(watch.peak_bytes, measured["peak_bytes"])
    return Measured(whole_s=whole_s, **measured)


def measure(argv: Sequence[str], work: Callable[[], dict[str, Any]]) -> None:
    """Does the work in the measured process, after its imports, and writes its cost.

    `argv` begins with the result file and the time at which the process was started.
    """
    result, started = Path(argv[0]), float(argv[1])
    session = os.getsid(0)
    cpu_s, imports_bytes = session_cpu_s(session), session_bytes(session)
    begin = time.monotonic()
    answer = work()
    end = time.monotonic()
    peak_bytes = session_peak_bytes(session)
    time.sleep(SETTLE_S)
    document = {
        "startup_s": begin - started,
        "startup_cpu_s": cpu_s,
        "work_s": end - begin,
        "work_cpu_s": session_cpu_s(session) - cpu_s,
        "peak_bytes": peak_bytes,
        "imports_bytes": imports_bytes,
        "answer": answer,
    }
    result.write_text(json.dumps(document), encoding="utf-8")


def session_cpu_s(session: int) -> float:
    """CPU time of a session's processes and of those that they have waited for, s."""
    total = 0.0
    for process in _processes(session):
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])  # user, system, and the same of children
    return total


def session_bytes(session: int) -> int:
    """Largest resident size among a session's processes, now."""
    largest = 0
    for process in _processes(session):
        with suppress(psutil.Error):
            largest = max(largest, process.memory_info().rss)
    return largest


def session_peak_bytes(session: int) -> int:
    """Largest resident size that any running process of a session has had."""
    return max((_peak_bytes(process.pid) for process in _processes(session)), default=0)


class _MemoryWatch(threading.Thread):
    """Samples the peak sizes of a session's processes while they run."""

    def __init__(self, session: int) -> None:
        super().__init__(name="memory-watch", daemon=True)
        self._session = session
        self._ended = threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        while not self._ended.wait(WATCH_EVERY_S):
            self.peak_bytes = max(self.peak_bytes, session_peak_bytes(self._session))

    def __enter__(self) -> "_MemoryWatch":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


def _processes(session: int) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(OSError):  # it has just ended
            if os.getsid(process.pid) == session:
                yield process


def _peak_bytes(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    sizes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return 1024 * sizes[0] if sizes else 0
