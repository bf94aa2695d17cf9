"""Lists the files below a folder, and sorts them: recordings, kinds that are not read, the rest.

Links to files and folders are followed, each folder once on its way down, so that loops end.
Hidden files and folders, and those that systems and network drives make for themselves, are left
out, as are stores inside the folder. All that is passed over is counted by ending.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from storage.audio.integrity import AUDIO_ENDINGS
from storage.audio.kinds import CONVERT, OTHER_AUDIO_ENDINGS
from storage.format.manifest import NAME as MANIFEST

SYSTEM_FOLDERS = frozenset(
    {"@eaDir", "#recycle", "__MACOSX", "$RECYCLE.BIN", "lost+found", "System Volume Information"}
)
SYSTEM_FILES = frozenset({"Thumbs.db", "desktop.ini", "Icon\r"})
MAX_SHOWN = 5
OWN = {  # files whose folders hold no recordings to be listed
    MANIFEST: "is a store",
    "predict.json": "has the results of a prediction",
}


@dataclass(slots=True, kw_only=True)
class Listing:
    """Files below a folder; names are relative to it.

    `audio`: recordings, sorted. `others`: all other files that are not hidden. `problems`: folders
    and links that could not be followed, with the reason.
    """

    audio: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    num_hidden: int = 0
    problems: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """All files that are not hidden."""
        return [*self.audio, *self.others]

    def unread(self) -> list[str]:
        """Audio of kinds that are not decoded here."""
        return [name for name in self.others if _ending(name) in OTHER_AUDIO_ENDINGS]

    def notes(self, used: Iterable[str] = ()) -> list[str]:
        """Sentences for the user on what was passed over; `used` files were not."""
        used = set(used)
        endings = Counter(_ending(name) for name in self.others if name not in used)
        unread = {end: count for end, count in endings.items() if end in OTHER_AUDIO_ENDINGS}
        rest = {end: count for end, count in endings.items() if end not in unread}
        if self.num_hidden:
            rest["hidden"] = self.num_hidden
        notes = []
        if unread:
            notes.append(
                f"audio of kinds that are not decoded here: {_counted(unread)}; convert them, as "
                f"with: {CONVERT.format(ending=max(unread, key=lambda end: unread[end]))}"
            )
        if rest:
            notes.append(f"files passed over, as they are no audio: {_counted(rest)}")
        if self.problems:
            more = "; ..." if len(self.problems) > MAX_SHOWN else ""
            notes.append(f"passed over: {'; '.join(self.problems[:MAX_SHOWN])}{more}")
        return notes


def list_folder(root: Path) -> Listing:
    """Lists what is below a folder of this machine; an empty listing where there is none."""
    listing = Listing()
    if root.is_dir():
        _sort_into(listing, _walk(root, "", listing, ()))
    return listing


def list_names(names: Iterable[str]) -> Listing:
    """Lists what is in a bucket, whose names are known."""
    listing = Listing()
    _sort_into(listing, _visible(names, listing))
    return listing


def _sort_into(listing: Listing, names: Iterable[str]) -> None:
    for name in names:
        (listing.audio if _ending(name) in AUDIO_ENDINGS else listing.others).append(name)
    listing.audio.sort(key=lambda name: name.split("/"))
    listing.others.sort()


def _visible(names: Iterable[str], listing: Listing) -> Iterator[str]:
    for name in names:
        *folders, file = name.split("/")
        if any(map(_is_system, folders)) or _is_hidden(file):
            listing.num_hidden += not any(map(_is_system, folders))
        else:
            yield name


def _walk(
    folder: Path, inside: str, listing: Listing, above: tuple[tuple[int, int], ...]
) -> Iterator[str]:
    """Yields the names of files; `above` are the folders (device, inode) on the way down."""
    try:
        found = folder.stat()
        entries = list(os.scandir(folder))
    except OSError as error:
        listing.problems.append(f"{shown_name(inside)} cannot be read ({error.strerror})")
        return
    if (found.st_dev, found.st_ino) in above:
        listing.problems.append(f"{shown_name(inside)} is a link to a folder that holds it")
        return
    if inside and (made := {entry.name for entry in entries} & OWN.keys()):
        listing.problems.append(f"{shown_name(inside)} {OWN[made.pop()]}")
        return
    above = (*above, (found.st_dev, found.st_ino))
    for entry in entries:
        name = f"{inside}/{entry.name}" if inside else entry.name
        try:
            mode = entry.stat().st_mode
        except OSError:  # a link that leads nowhere: named, where it stands for a recording
            mode = stat.S_IFREG if _ending(name) in AUDIO_ENDINGS else 0
        if stat.S_ISDIR(mode):
            if not _is_system(entry.name):
                yield from _walk(folder / entry.name, name, listing, above)
        elif _is_hidden(entry.name):
            listing.num_hidden += 1
        elif stat.S_ISREG(mode):
            yield name
        else:
            what = "is no regular file" if mode else "is a link that leads nowhere"
            listing.problems.append(f"{shown_name(name)} {what}")


def shown_name(name: str) -> str:
    """A name for tables and messages: bytes that are no UTF-8 as \\xfc."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _ending(name: str) -> str:
    return PurePosixPath(shown_name(name)).suffix.lower()


def _is_system(folder: str) -> bool:
    return folder.startswith(".") or folder in SYSTEM_FOLDERS


def _is_hidden(file: str) -> bool:
    return file.startswith(".") or file in SYSTEM_FILES


def _counted(counts: dict[str, int]) -> str:
    """Counts by ending, the most frequent first: 4 .txt, 1 without an ending."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count:,} {ending or 'without an ending'}" for ending, count in ordered]
    rest = sum(count for _, count in ordered[2 * MAX_SHOWN :])
    return ", ".join([*shown[: 2 * MAX_SHOWN], *([f"{rest:,} others"] if rest else [])])
