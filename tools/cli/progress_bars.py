"""Progress bars with an ETA, for stages of long work."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from storage.progress import PlainLines, Step
from tools.cli.terminal import NARROW, terminal_width

SPEAK_EVERY_S = 10.0  # into a file or a pipe
IN_A_FILE = "{desc}: {percentage:.0f}% {n_fmt}/{total_fmt}{unit}, {elapsed}<{remaining}"


@contextmanager
def bar(what: str, total: int, unit: str) -> Iterator[Step]:
    """A bar for one stage; where nobody looks (no terminal), a plain line now and then."""
    watched = sys.stderr.isatty()
    with tqdm(
        desc=what,
        total=total,
        unit=f" {unit}",
        unit_scale=total > 9999,
        file=sys.stderr if watched else PlainLines(sys.stderr),
        dynamic_ncols=watched,
        bar_format=None if watched and terminal_width() >= NARROW else IN_A_FILE,
        mininterval=0.2 if watched else SPEAK_EVERY_S,
        delay=0.5,
    ) as line:
        yield lambda count: _advance(line, count)


def _advance(line: "tqdm[None]", count: int) -> None:
    line.update(count)
