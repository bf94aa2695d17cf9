"""Results that take long to make: begun when they are first asked for, in the background.

embeddings = Later("embeddings", make)
embeddings.get()      # raises ComputingError until they are there
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from storage.errors import MelbankError
from storage.progress import Progress, Step

Made = TypeVar("Made")


class ComputingError(MelbankError):
    """A result is being made: `progress` says how much of it is, from 0 to 1."""

    def __init__(self, what: str, progress: float) -> None:
        super().__init__(f"{what} are being computed: {progress:.0%} are done")
        self.what, self.progress = what, progress


class Later(Generic[Made]):
    """A result of a function that is given a `Progress`. Safe to use from threads."""

    def __init__(self, what: str, make: Callable[[Progress], Made]) -> None:
        self._what, self._make = what, make
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._made: list[Made] = []
        self._failed: MelbankError | None = None
        self._done, self._total = 0, 1

    def get(self, wait_s: float = 0.5) -> Made:
        """The result; ComputingError where it is not there after `wait_s`.

        Raises the error with which making it has ended.
        """
        with self._lock:
            if self._thread is None and not self._made:
                self._failed = None
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(wait_s)
        if self._made:
            return self._made[0]
        if self._failed is not None and (thread is None or not thread.is_alive()):
            error, self._thread = self._failed, None
            raise error
        raise ComputingError(self._what, self._done / max(1, self._total))

    def _run(self) -> None:
        try:
            self._made.append(self._make(self._progress))
        except MelbankError as error:
            self._failed = error
        finally:
            if not self._made and self._failed is None:
                self._failed = MelbankError(f"{self._what} could not be computed: see the terminal")

    @contextmanager
    def _progress(self, what: str, total: int, unit: str) -> Iterator[Step]:
        del what, unit
        self._done, self._total = 0, total

        def step(count: int) -> None:
            self._done += count

        yield step
