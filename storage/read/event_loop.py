"""One event loop in a thread of its own, for all that a process reads from object stores.

Requests go on there while other threads decode and train. It starts when first asked for and ends
with the process.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from storage.errors import StoreError
from storage.objects.keep_alive import close_connections

Result = TypeVar("Result")

_END_WITHIN_S = 5.0
_OBSTORE_ENDS_S = 0.1  # its threads panic, in words alone, where Python ends before them


class BackgroundLoop:
    """An event loop that runs in a thread until it is stopped."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="object-store", daemon=True
        )
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, Result]) -> "Future[Result]":
        """Starts a coroutine there; its future may be waited for, or cancelled, anywhere."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self) -> None:
        """Cancels all that is under way, and ends the thread."""
        if self.pid != os.getpid() or self._loop.is_closed():  # the thread is not in this process
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result(_END_WITHIN_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_END_WITHIN_S)
        if not self._thread.is_alive():
            self._loop.close()


_lock = threading.Lock()
_running: list[BackgroundLoop] = []  # at most one


def background_loop() -> BackgroundLoop:
    """The loop of this process.

    Raises StoreError in a process that was forked from one that has read from an object store:
    the connections of obstore do not survive that, and every request would hang.
    """
    with _lock:
        if not _running:
            _running.append(BackgroundLoop())
            atexit.register(_running[0].stop)
        if _running[0].pid != os.getpid():
            raise StoreError(
                "object stores cannot be read in a process that was forked from one which has read "
                "from them: start workers again, as in "
                'DataLoader(..., multiprocessing_context="spawn")'
            )
        return _running[0]


async def _cancel_all() -> None:
    own = asyncio.current_task()
    tasks = [task for task in asyncio.all_tasks() if task is not own]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if tasks:
        await asyncio.sleep(_OBSTORE_ENDS_S)
    close_connections()
