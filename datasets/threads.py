"""Work on pieces of large arrays in threads: numpy and Polars leave Python's lock meanwhile."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from storage.processes import num_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yields what `work` makes of each item, in order; a thread for each core, few items ahead."""
    some = [*items]
    if len(some) < 2:
        yield from map(work, some)
        return
    ahead = num_cores()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(ahead) as threads:
        for item in some:
            waiting.append(threads.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
