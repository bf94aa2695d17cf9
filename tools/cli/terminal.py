"""Width of the terminal, and tables that fit into it."""

import shutil
from collections.abc import Sequence

NARROW = 80  # columns, also of a file or a pipe


def terminal_width() -> int:
    """Columns of the terminal, or of the variable COLUMNS."""
    return shutil.get_terminal_size((NARROW, 24)).columns


def fit_columns(
    header: Sequence[str],
    lines: Sequence[Sequence[str]],
    *,
    first: Sequence[str] = (),
    width: int | None = None,
) -> str:
    """Formats a table, right-aligned but for texts, of as many columns as `width` takes.

    The columns named in `first` are taken in that order, then the others from the left; without a
    width all are.
    """
    places = sorted(range(len(header)), key=lambda place: _wanted(header[place], first))
    widths = [max(len(line[place]) for line in [header, *lines]) for place in range(len(header))]
    shown: list[int] = []
    for place in places:
        if width is None or sum(widths[one] + 2 for one in (*shown, place)) - 2 <= width:
            shown.append(place)
    shown.sort()
    return "\n".join(
        "  ".join(
            line[place].rjust(widths[place])
            if _is_number(lines, place)
            else line[place].ljust(widths[place])
            for place in shown
        ).rstrip()
        for line in [header, *lines]
    )


def shorten(text: str, width: int) -> str:
    """The beginning of a text in one line of `width`, with an ellipsis where it is longer."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _wanted(name: str, first: Sequence[str]) -> int:
    return first.index(name) if name in first else len(first)


def _is_number(lines: Sequence[Sequence[str]], place: int) -> bool:
    return all(line[place].strip("-0123456789.") == "" for line in lines)
