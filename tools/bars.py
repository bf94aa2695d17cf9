"""Progress bars with an ETA, for stages of long work."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from storage.progress import Step


@contextmanager
def bar(what: str, total: int, unit: str) -> Iterator[Step]:
    """A bar for one stage; where nobody looks (no terminal) it speaks every ten seconds."""
    watched = sys.stderr.isatty()
    with tqdm(
        desc=what,
        total=total,
        unit=f" {unit}",
        unit_scale=total > 9999,
        file=sys.stderr,
        dynamic_ncols=watched,
        ncols=None if watched else 90,
        mininterval=0.2 if watched else 10.0,
        delay=0.5,
    ) as line:
        yield lambda count: _advance(line, count)


def _advance(line: "tqdm[None]", count: int) -> None:
    line.update(count)
