"""Notices within seconds that another process of a training has ended, and ends this one.

What waits for another rank is C++ code that no exception interrupts, for half an hour or for ever;
so a thread watches the processes that the first rank has started, or the first rank itself.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from training.runtime.ranks import RankLostError, is_first_rank, is_joined, num_ranks, rank

FIRST_PID = "MELBANK_FIRST_PID"  # by which the first process informs those that it starts
POLL_S = 0.2
GRACE_S = 3.0  # for a process to end by itself, which says more
OBSERVER = "child-process-observer"  # thread of Lightning that would kill all without a word
GLOO_LOST = (  # in gloo's words
    "Connection closed by peer",
    "Connection reset by peer",
    "Timed out waiting",
)


class RankWatch:
    """Watches the other processes of a training; `advice` says how to go on after a loss.

    Processes of a launcher are watched by that; here, only their connections are.
    """

    def __init__(
        self, devices: int, advice: Callable[[], str], *, is_launched: bool = False
    ) -> None:
        self._devices = devices
        self._is_launched = is_launched
        self._advice = advice
        self._launcher: Any = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ended = threading.Event()
        self._noticed = threading.Event()
        self._lost = "another rank has ended"

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches in the block; turns errors of lost connections into RankLostError."""
        if self._devices == 1:
            yield
            return
        if not self._is_launched:
            self._begin()
        try:
            yield
        except RuntimeError as error:
            if not _is_loss(error):
                raise
            if not self._is_launched:
                self._noticed.wait(GRACE_S)
            advice = "" if is_first_rank() else self._advice()  # the first one will give it
            raise RankLostError(f"{self._sentence()}{advice}") from error
        finally:
            self._ended.set()

    def _begin(self) -> None:
        if is_first_rank():
            os.environ[FIRST_PID] = str(os.getpid())
        thread = threading.Thread(target=self._watch, name="rank-watch", daemon=True)
        thread.start()

    def follow(self, launcher: Any) -> None:
        """Watches the processes that a launcher of Lightning will start, if it starts any."""
        self._launcher = launcher

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            if lost := self._find_lost():
                self._lost = lost
                self._noticed.set()
                if not self._ended.wait(GRACE_S):
                    sys.stderr.write(f"error: {self._sentence()}{self._advice()}\n")
                    for process in self._processes:
                        process.kill()
                    os._exit(1)
                return

    def _find_lost(self) -> str:
        if not is_first_rank():
            gone = str(os.getppid()) != os.environ.get(FIRST_PID)
            return "rank 0 has ended" if gone else ""
        self._take_over()
        for number, process in enumerate(self._processes, 1):
            code = process.poll()
            if code is not None and code < 0:
                name = signal.Signals(-code).name
                return f"rank {number} was killed ({name}), most likely by a lack of memory"
            if code:
                return f"rank {number} has ended with exit code {code}; its error is above"
        return ""

    def _take_over(self) -> None:
        """Takes the started processes from Lightning's observer, which is left with none."""
        started = getattr(self._launcher, "procs", [])
        observed = any(thread.name == OBSERVER for thread in threading.enumerate())
        if not self._processes and observed and len(started) == self._devices - 1:
            self._processes = list(started)
            self._launcher.procs = self._processes
            started.clear()

    def _sentence(self) -> str:
        return f"rank {rank()} of {self._devices} ends because {self._lost}"


def _is_loss(error: RuntimeError) -> bool:
    """True where a connection to another rank has broken."""
    if not is_joined() or num_ranks() == 1:
        return False
    from torch.distributed import DistError

    return isinstance(error, DistError) or any(words in str(error) for words in GLOO_LOST)
