"""How long work tells of itself: a stage with a total, then steps. The tools draw bars from it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Step = Callable[[int], None]
Progress = Callable[[str, int, str], AbstractContextManager[Step]]


@contextmanager
def silent(what: str, total: int, unit: str) -> Iterator[Step]:
    """A stage (what, total, unit) that tells nothing."""
    del what, total, unit
    yield lambda _: None
