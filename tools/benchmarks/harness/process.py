"""Runs a Python module in a separate process and measures it with all its descendants.

A measured process leads a session, in which its workers stay: their CPU time and memory are read
by the process itself where its work begins and ends, and from outside meanwhile. CPU time comes in
ticks of 10 ms. Sizes are those of /proc: psutil has no peak on Linux, and the ru_maxrss of a
process begins with the peak of the process that started it.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from storage.errors import ConfigError, StoreError
from tools.cli.checkout import ROOT

Result = dict[str, Any]  # of one run: its numbers by name, and what else it says
PROC = Path("/proc")
WATCH_EVERY_S = 0.1
SETTLE_S = 0.2  # until workers that have ended are accounted for
NOTHING: Mapping[str, str] = {}
# Held to these, no library takes more than one core for itself.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def check_measurable() -> None:
    """Raises ConfigError on systems without /proc."""
    if not (PROC / "self" / "status").exists():
        raise ConfigError("this benchmark reads memory and reads from /proc: run it on Linux")


def run_session(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    timeout_s: float = math.inf,
    watch: Callable[[int], None] = lambda _: None,
) -> None:
    """Runs a command in a session of its own; `watch` is called with its id meanwhile.

    `environment` comes on top of this process's own. Raises StoreError, with the last line that it
    wrote, where it fails or takes too long.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    ends, errors = time.monotonic() + timeout_s, None
    try:
        while errors is None:
            with suppress(subprocess.TimeoutExpired):
                _, errors = process.communicate(timeout=WATCH_EVERY_S)
            watch(process.pid)
            if errors is None and time.monotonic() > ends:
                raise StoreError(f"it took longer than {timeout_s:g} s")
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    if process.returncode:
        lines = errors.strip().splitlines() or [f"exit code {process.returncode}"]
        raise StoreError(lines[-1].strip())


def run_measured(
    module: str,
    arguments: Sequence[str],
    *,
    one_thread: bool = True,
    environment: Mapping[str, str] = NOTHING,
) -> Result:
    """Runs `python -m module RESULT STARTED arguments...`, which ends with `measure`.

    `one_thread` holds the numeric libraries to one thread in each process; `environment` comes on
    top of this process's own. The result has what its
    work returned and its cost: `startup_s` until the end of its imports, `work_s` from there on,
    `whole_s`; the same of CPU time, `work_cpu_s` and `whole_cpu_s`, of all processes together;
    `peak_bytes`, the largest resident size that any of them reached, and `above_imports_bytes`,
    how far that is above the largest where the work began.
    """
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        started = time.monotonic()
        run_session(
            [sys.executable, "-m", module, str(file), str(started), *arguments],
            ROOT,
            {**environment, **(ONE_THREAD if one_thread else {})},
            watch=lambda session: peaks.append(session_bytes(session, "VmHWM")),
        )
        whole_s = time.monotonic() - started
        result: Result = json.loads(file.read_text(encoding="utf-8"))
    peak_bytes = max(*peaks, result["peak_bytes"])
    above_bytes = peak_bytes - result.pop("imports_bytes")
    peak = {"peak_bytes": peak_bytes, "above_imports_bytes": above_bytes}
    return {**result, "whole_s": whole_s, **peak}


def measure(argv: Sequence[str], work: Callable[[], Result]) -> None:
    """Does the work in the measured process, after its imports, and writes its result and cost.

    `argv` begins with the result file and the time at which the process was started.
    """
    file, started = Path(argv[0]), float(argv[1])
    session = os.getsid(0)
    startup_cpu_s, imports_bytes = session_cpu_s(session), session_bytes(session)
    begin = time.monotonic()
    result = work()
    end = time.monotonic()
    peak_bytes = session_bytes(session, "VmHWM")
    time.sleep(SETTLE_S)
    whole_cpu_s = session_cpu_s(session)
    cost = {
        "startup_s": begin - started,
        "work_s": end - begin,
        "work_cpu_s": whole_cpu_s - startup_cpu_s,
        "whole_cpu_s": whole_cpu_s,
        "peak_bytes": peak_bytes,
        "imports_bytes": imports_bytes,
    }
    file.write_text(json.dumps({**result, **cost}), encoding="utf-8")


def session_cpu_s(session: int) -> float:
    """CPU time of a session's processes and of those that they have waited for, s."""
    total = 0.0
    for process in _processes(session):
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])  # user, system, and the same of children
    return total


def session_bytes(session: int, entry: str = "VmRSS") -> int:
    """Largest resident size among a session's processes: now, or with VmHWM at their peaks."""
    largest = 0
    for process in _processes(session):
        with suppress(OSError):  # it has just ended
            for line in (PROC / str(process.pid) / "status").read_text().splitlines():
                if line.startswith(f"{entry}:"):
                    largest = max(largest, 1024 * int(line.split()[1]))
    return largest


def _processes(session: int) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(OSError):  # it has just ended
            if os.getsid(process.pid) == session:
                yield process
