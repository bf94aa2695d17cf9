"""Matches the filenames of a csv to files: as written, else where exactly one file fits.

A name may differ from its file in Unicode form, case, backslashes, and in folders before it, which
either may have more of. Where nothing fits, the nearest name that no row has is kept for the
message.
"""

import difflib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_NEAREST = 20  # names for which the nearest file is looked for
MAX_COMPARED = 5000  # files that each is compared with


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A file for a name: `file` None where none fits; `nearest` then is one much like it."""

    file: str | None
    nearest: str | None = None


def match_names(names: Sequence[str], files: Iterable[str]) -> dict[str, Match]:
    """Finds the file of each name that is not itself one; names that are files are left out.

    A file that another row names as it is written is no candidate.
    """
    there = set(files)
    wanted = list(dict.fromkeys(name for name in names if name and name not in there))
    if not wanted:
        return {}
    free = sorted(there - set(names))
    by_end = defaultdict(list)
    for file in free:
        by_end[_key(file).rpartition("/")[2]].append(file)
    found = {name: _fitting(_key(name), by_end) for name in wanted}
    missing = [name for name in wanted if found[name] is None][:MAX_NEAREST]
    nearest = {name: _nearest(_key(name), free) for name in missing}
    return {name: Match(file=found[name], nearest=nearest.get(name)) for name in wanted}


def _fitting(key: str, by_end: dict[str, list[str]]) -> str | None:
    """The one file that a key fits, if there is just one: of one path, one must end in the other.

    A file with the very path goes before others.
    """
    parts = key.split("/")
    if ".." in parts:
        return None
    candidates = [(file, _key(file)) for file in by_end.get(parts[-1], [])]
    same = [file for file, other in candidates if other == key]
    fits = same or [
        file
        for file, other in candidates
        if f"/{key}".endswith(f"/{other}") or f"/{other}".endswith(f"/{key}")
    ]
    return fits[0] if len(fits) == 1 else None


def _key(name: str) -> str:
    """A name as it is compared: composed letters, no case, forward slashes."""
    text = unicodedata.normalize("NFC", name.replace("\\", "/")).casefold()
    return "/".join(part.strip() for part in text.split("/") if part.strip() not in ("", "."))


def _nearest(key: str, files: list[str]) -> str | None:
    """The file most like a name: equal but for its ending, or by its letters."""
    keys = {_key(file): file for file in reversed(files[:MAX_COMPARED])}
    stem = key.rpartition("/")[2].partition(".")[0]
    same = [other for other in keys if other.rpartition("/")[2].partition(".")[0] == stem]
    close = difflib.get_close_matches(key, same or list(keys), n=1, cutoff=0.6 * (not same))
    return keys[close[0]] if close else None
