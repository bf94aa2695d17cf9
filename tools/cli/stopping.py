"""Signals that stop a command: SIGTERM and SIGHUP end it in the same clean way as Ctrl-C does.

Commands that it has started are stopped with it.
"""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import FrameType, TracebackType
from typing import IO, Any

from tools import end_at_once

AGAIN_S = 0.05
CLEAN_END_S = 20.0  # for the end that a command comes to by itself, once it is asked to
KILLED = -9
Handler = Callable[[int, FrameType | None], Any] | int | None


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP, which libraries handle as the Ctrl-C that they know."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_code(stop: KeyboardInterrupt) -> int:
    """Returns 128 and the number of the signal, as a shell does: 130 for Ctrl-C."""
    return 128 + _number(stop)


def forget_interrupt() -> None:
    """Lets the process end with the code that it is given, after a KeyboardInterrupt was handled.

    CPython remembers one that came in the code of an `exec` of a text, as dataclasses and named
    tuples are made while modules are imported; `python -m` then ends by SIGINT whatever its code.
    The next evaluation of a text makes it forget (`run_eval_code_obj` in Python/pythonrun.c).
    """
    eval("None")


@contextmanager
def stopping() -> Iterator[None]:
    """Raises KeyboardInterrupt in the block on Ctrl-C, SIGTERM or SIGHUP.

    A signal that is ignored (`nohup`) or has another handler stays as it is.
    """
    ours: dict[int, Handler] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: _raise,
        signal.SIGHUP: _raise,
    }
    with _handled(ours, instead_of=(signal.SIG_DFL, end_at_once)), _never_lost():
        try:
            yield
        except BaseException as error:
            if (stop := _stop_behind(error)) is not None:
                raise stop from None
            raise


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Ends the process at once on these signals, while libraries would swallow exceptions."""
    ours: dict[int, Handler] = {
        signal.SIGINT: end_at_once,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    with _handled(ours, instead_of=(signal.default_int_handler, _raise)):
        yield


class Children(AbstractContextManager["Children"]):
    """Runs commands, from any thread; a stop that leaves the block ends them first.

    Ctrl-C reaches them from the terminal, as it does this process; SIGTERM and SIGHUP are passed
    on as SIGTERM. One that has not ended after `CLEAN_END_S` is killed.
    """

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._stopped = False

    def run(
        self, words: Sequence[str], environment: Mapping[str, str], out: IO[str] | None = None
    ) -> int:
        """Runs `python -m` with these words; returns its exit code."""
        call = [sys.executable, "-m", *words]
        with self._lock:
            if self._stopped:
                return KILLED
            child = subprocess.Popen(call, stdout=out, stderr=out, env=dict(environment))
            self._running.append(child)
        code = child.wait()
        self._running.remove(child)
        return code

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._stop(at_once=isinstance(error, Stopped))

    def _stop(self, *, at_once: bool) -> None:
        """Ends what runs: asks, where nobody else has, then insists."""
        with self._lock:
            self._stopped = True
            running = [*self._running]
        try:
            if not at_once:
                _wait(running)
            for child in running:
                child.terminate()
            _wait(running)
        finally:  # a second Ctrl-C is one that cannot wait
            for child in running:
                child.kill()


def _raise(number: int, _: FrameType | None) -> None:
    raise Stopped(number)


def _stop_behind(error: BaseException) -> KeyboardInterrupt | None:
    """The stop that a library has turned into another error, as imports do."""
    chain: BaseException | None = error
    while chain is not None and not isinstance(chain, KeyboardInterrupt):
        chain = chain.__cause__ or chain.__context__
    return chain


def _number(stop: BaseException | None) -> int:
    return stop.number if isinstance(stop, Stopped) else signal.SIGINT


@contextmanager
def _handled(handlers: Mapping[int, Handler], instead_of: tuple[Handler, ...]) -> Iterator[None]:
    """Handles signals in the block, those that have one of the usual handlers so far."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in handlers}
    replaced = [number for number, handler in before.items() if handler in instead_of]
    try:
        for number in replaced:
            signal.signal(number, handlers[number])
        yield
    finally:
        for number in replaced:
            signal.signal(number, before[number])


@contextmanager
def _never_lost() -> Iterator[None]:
    """Sends a signal again that has come inside a destructor, where exceptions are dropped."""
    before = sys.unraisablehook

    def send_again(dropped: "sys.UnraisableHookArgs") -> None:
        if isinstance(dropped.exc_value, KeyboardInterrupt):
            number = _number(dropped.exc_value)
            main = threading.main_thread().ident
            threading.Timer(AGAIN_S, signal.pthread_kill, [main, number]).start()
        else:
            before(dropped)

    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = before


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Waits until all have ended, but no longer than for a clean end."""
    patience = threading.Event()
    for _ in range(int(CLEAN_END_S / 0.05)):
        if all(child.poll() is not None for child in children):
            return
        patience.wait(0.05)
