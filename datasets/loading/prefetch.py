"""Runs an iterator ahead of its consumer, in one background thread."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

JOIN_S = 0.1


def prefetch(
    items: Iterator[T], depth: int, interrupt: Callable[[], None] = lambda: None
) -> Generator[T, None, None]:
    """Yields the items in order while a thread makes up to `depth` of them ahead.

    An exception of `items` is raised here, after the items before it. Closing or dropping the
    generator calls `interrupt`, which must end what waits inside `items`, until the thread has
    ended. Nothing runs before the first item is requested. A depth of 0 uses no thread.
    """
    if depth == 0:
        yield from items
        return
    queue: _Queue[T] = _Queue(depth)
    thread = threading.Thread(target=_fill, args=(items, queue), name="prefetch", daemon=True)
    try:
        thread.start()
        while (item := queue.get()) is not None:
            yield item[0]
            del item  # a reference would keep the consumer's buffer from reuse
    finally:
        queue.close()
        interrupt()
        while thread.is_alive():
            thread.join(JOIN_S)
            interrupt()  # what has begun to wait since


def _fill(items: Iterator[T], queue: "_Queue[T]") -> None:
    try:
        for item in items:
            if not queue.put(item):
                break
            del item
    except BaseException as error:  # noqa: BLE001 - raised again in the consumer's thread
        queue.end(error)
    else:
        queue.end(None)
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


class _Queue(Generic[T]):
    """Bounded queue between two threads that either side can end."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._items: deque[tuple[T]] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._closed = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Waits for room; False where the consumer has gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._depth)
            if not self._closed:
                self._items.append((item,))
                self._changed.notify_all()
            return not self._closed

    def get(self) -> tuple[T] | None:
        """Waits for the next item; None at the end. Raises the producer's error after its items."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._items)
            if self._items:
                self._changed.notify_all()
                return self._items.popleft()
            if self._error is not None:
                raise self._error
            return None

    def end(self, error: BaseException | None) -> None:
        """Ends the queue on the producer's side, with its error if it failed."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the queue on the consumer's side."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
