"""Text for files of other programs: cells on one line, times, safe names of files."""

import re
import unicodedata
from hashlib import sha256

from storage.untrusted import is_plain

MAX_PART_BYTES = 220  # an ending and the name of an unfinished file need some of the 255
MAX_NAME_BYTES = 100  # of a part of a file name; file systems take 255 in all
_BREAKS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
_UNSAFE = re.compile(r"[^\w\-+.,() ]+")
# Names that Windows keeps for devices.
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def one_line(text: str) -> str:
    """Returns text for a cell of a table without quotes: no tab, no line break.

    A quote at its beginning becomes an apostrophe, as readers of csv would take it for the start
    of a quoted cell.
    """
    text = _BREAKS.sub(" ", text).strip()
    return f"'{text[1:]}" if text.startswith('"') else text


def seconds(value: float) -> str:
    """Returns a time in seconds with 6 decimals: sample positions of any rate stay apart."""
    return f"{value:.6f}"


def short_seconds(value: float) -> str:
    """Returns a time in seconds with at most 3 decimals, for names of files."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def plain_path(name: str) -> str:
    """Returns the name of a recording, with folders, as a path that leads out of no folder.

    A part that no file system takes, or that leaves no room for an ending, is changed; the hash in
    it keeps it apart from others.
    """
    return "/".join(
        part
        if is_plain(part) and len(part.encode()) <= MAX_PART_BYTES
        else f"{safe_name(part)}_{sha256(part.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
        for part in name.split("/")
    )


def safe_name(text: str) -> str:
    """Returns text as one part of a file name, on any system: it leads out of no folder."""
    text = text.encode("utf-8", "replace").decode()  # names of files may be no Unicode
    text = _UNSAFE.sub("_", unicodedata.normalize("NFC", text))
    while len(text.encode()) > MAX_NAME_BYTES:
        text = text[:-1]
    text = text.strip(" .")
    return f"_{text}" if not text or _DEVICES.fullmatch(text) else text


def unused_name(base: str, ending: str, names: set[str]) -> str:
    """Returns base and ending, with a number where `names` has that already; adds it there.

    In lower case, as some file systems do not tell them apart.
    """
    name, number = f"{base}{ending}", 2
    while name.lower() in names:
        name, number = f"{base}_{number}{ending}", number + 1
    names.add(name.lower())
    return name
