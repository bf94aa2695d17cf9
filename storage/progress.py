"""Progress of long work: a stage with a total, then steps. The tools draw bars from it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TextIO

Step = Callable[[int], None]
Progress = Callable[[str, int, str], AbstractContextManager[Step]]


@contextmanager
def silent(what: str, total: int, unit: str) -> Iterator[Step]:
    """A stage (what, total, unit) that reports nothing."""
    del what, total, unit
    yield lambda _: None


class PlainLines:
    """A file or pipe that a bar is drawn into: each state a line, no control characters."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = ""

    def write(self, text: str) -> None:
        """One state of the bar, which begins with a carriage return."""
        if (line := text.strip()) and line != self._last:
            self._last = line
            self._stream.write(f"{line}\n")

    def flush(self) -> None:
        """Passes on what was written."""
        self._stream.flush()
