"""Recordings to predict: files, folders, tables of files, objects of buckets, or a store.

    listed = list_inputs(["soundscapes", "extra/one.wav", "s3://bucket/2026/"])

The order is that of the names (`recording_id`), whatever the order of folders and arguments. A
name is the path below the folder that was given, less the ending; endings stay where two files
differ in nothing else, and names that several inputs share begin with the inputs' own. Nothing is
read but lists and tables, and nothing is ever written there.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from storage.audio.integrity import AUDIO_ENDINGS
from storage.audio.kinds import OTHER_AUDIO_ENDINGS
from storage.errors import ConfigError
from storage.format.manifest import NAME as MANIFEST
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.open import open_objects
from storage.objects.urls import check_url, is_remote, is_web, local_path
from storage.source.cells import is_missing, tidy
from storage.source.csv_text import read_csv
from storage.source.listing import Listing, list_folder, list_names, shown_name
from storage.source.recordings import without_ending

FILE_COLUMNS = ("filename", "file", "path")
TABLE_ENDINGS = (".csv", ".tsv")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRecording:
    """One recording to predict.

    `path`: where it is, a path or a URL. `version`: what changes when the file does, its size and
    time of change; empty where it is not known before it is read.
    """

    recording_id: str
    path: str
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """All recordings of a run in its order; or the URL of a store, which holds them.

    `notes`: sentences for the user on what was passed over.
    """

    recordings: tuple[InputRecording, ...] = ()
    store: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A file of an input: its name there, and the input's path, by which names are told apart."""

    name: str
    path: str
    parent: str
    version: str = ""


def list_inputs(
    given: Sequence[str], remote: RemoteConfig = DEFAULT, *, limit: int | None = None
) -> Inputs:
    """Lists the recordings of `predict.input`; raises ConfigError where there are none.

    `limit` takes that many, spread over all.
    """
    stores = [text for text in given if _is_store(text, remote)]
    if stores:
        if len(given) > 1:
            raise ConfigError(
                f"predict.input={stores[0]} is a store: predict it alone, without other inputs"
            )
        return Inputs(store=stores[0])
    entries: list[_Entry] = []
    notes: list[str] = []
    for text in given:
        found, said = _list_one(text, remote)
        entries += found
        notes += said
    recordings = sorted(_named(_once(entries)), key=lambda recording: recording.recording_id)
    if limit is not None and limit < len(recordings):
        recordings = [recordings[place * len(recordings) // limit] for place in range(limit)]
    if not recordings:
        raise ConfigError("; ".join([f"predict.input={','.join(given)} has no recordings", *notes]))
    return Inputs(recordings=tuple(recordings), notes=tuple(notes))


def _is_store(text: str, remote: RemoteConfig) -> bool:
    """True for a folder or URL with the manifest of a store."""
    if not is_remote(text):
        return (local_path(text) / MANIFEST).is_file()
    check_url(text)
    if PurePosixPath(unquote(urlsplit(text).path)).suffix:
        return False
    return open_objects(text, remote=remote).exists(MANIFEST)


def _list_one(text: str, remote: RemoteConfig) -> tuple[list[_Entry], list[str]]:
    """The files of one entry of `predict.input`, and sentences on what was passed over."""
    if is_remote(text):
        return _list_remote(text, remote)
    path = local_path(text)
    if path.is_dir():
        listing = list_folder(path)
        entries = [_local(name, path / name, str(path)) for name in listing.audio]
        return entries, _notes(text, listing)
    if not path.exists():
        raise ConfigError(f"predict.input={shown_name(text)}: there is no such file or folder")
    if path.suffix.lower() in TABLE_ENDINGS:
        return _list_table(path.read_bytes(), text, str(path.parent))
    if (ending := path.suffix.lower()) in OTHER_AUDIO_ENDINGS:
        return [], [f"{text}: audio of the kind {ending} is not decoded here: convert it"]
    return [_local(path.name, path, str(path.parent))], []


def _local(name: str, path: Path, parent: str) -> _Entry:
    try:
        found = path.stat()
    except OSError:  # it becomes a row of rejects, with the reason
        return _Entry(name=name, path=str(path), parent=parent)
    version = f"{found.st_size} bytes, {found.st_mtime_ns} ns"
    return _Entry(name=name, path=str(path), parent=parent, version=version)


def _list_remote(url: str, remote: RemoteConfig) -> tuple[list[_Entry], list[str]]:
    """An object, a table, or all objects below a prefix."""
    parent, _, name = url.rstrip("/").rpartition("/")
    ending = PurePosixPath(unquote(name)).suffix.lower()
    if ending in TABLE_ENDINGS:
        return _list_table(open_objects(parent, remote=remote).get(unquote(name)), url, parent)
    if ending in AUDIO_ENDINGS:
        sizes = open_objects(parent, remote=remote).sizes([unquote(name)])
        return [_remote(unquote(name), parent, sizes)], []
    if ending in OTHER_AUDIO_ENDINGS:
        return [], [f"{url}: audio of the kind {ending} is not decoded here: convert it"]
    if is_web(url):
        raise ConfigError(
            f"predict.input={url}: a web server cannot list a folder: give its files, or a csv "
            "that names them"
        )
    sizes = open_objects(url, remote=remote).walk()
    listing = list_names(sizes)
    entries = [_remote(name, url.rstrip("/"), sizes) for name in listing.audio]
    return entries, _notes(url, listing)


def _remote(name: str, parent: str, sizes: dict[str, int]) -> _Entry:
    version = f"{sizes[name]} bytes" if name in sizes else ""
    return _Entry(name=name, path=f"{parent}/{quote(name)}", parent=parent, version=version)


def _list_table(data: bytes, path: str, parent: str) -> tuple[list[_Entry], list[str]]:
    """The files that a csv names, relative to its own folder."""
    table = read_csv(data, path)
    column = next((name for name in FILE_COLUMNS if name in table.columns), None)
    if column is None:
        raise ConfigError(
            f"predict.input={path} has no column of file names: one of {', '.join(FILE_COLUMNS)} "
            f"is wanted; it has {', '.join(list(table.columns)[:10])}"
        )
    names = [tidy(cell) for cell in table.columns[column] if not is_missing(cell)]
    return [_of_table(name, parent) for name in names], list(table.notes)


def _of_table(name: str, parent: str) -> _Entry:
    if is_remote(name):
        check_url(name)
        folder, _, file = name.rpartition("/")
        return _Entry(name=unquote(file), path=name, parent=folder)
    if is_remote(parent):
        return _Entry(name=name, path=f"{parent}/{quote(name)}", parent=parent)
    path = Path(parent, name)
    if Path(name).is_absolute():
        return _local(path.name, path, str(path.parent))
    parts = PurePosixPath(os.path.normpath(name)).parts
    return _local("/".join(part for part in parts if part != ".."), path, parent)


def _notes(text: str, listing: Listing) -> list[str]:
    return [f"{shown_name(text)}: {note}" for note in listing.notes()]


def _once(entries: Iterable[_Entry]) -> list[_Entry]:
    """Each file once, however often it was named."""
    found: dict[str, _Entry] = {}
    for entry in entries:
        key = entry.path if is_remote(entry.path) else os.path.abspath(entry.path)
        found.setdefault(key, entry)
    return list(found.values())


def _named(entries: list[_Entry]) -> list[InputRecording]:
    """Recordings with names that are unique, and as short as that allows."""
    names = [shown_name(without_ending(entry.name)) for entry in entries]
    counts = Counter(zip(names, (entry.parent for entry in entries), strict=True))
    for place, entry in enumerate(entries):
        if counts[names[place], entry.parent] > 1:
            names[place] = shown_name(entry.name)
    depth = 0
    while twice := {name for name, count in Counter(names).items() if count > 1}:
        depth += 1
        for place, entry in enumerate(entries):
            if names[place] in twice:
                names[place] = _prefixed(names[place], entry, depth)
    return [
        InputRecording(recording_id=name, path=entry.path, version=entry.version)
        for name, entry in zip(names, entries, strict=True)
    ]


def _prefixed(name: str, entry: _Entry, depth: int) -> str:
    """The name with one more folder of the input's own path before it."""
    above = entry.parent if is_remote(entry.parent) else os.path.abspath(entry.parent)
    parts = [part for part in shown_name(above).split("/") if part]
    if depth > len(parts):
        raise ConfigError(f"{shown_name(entry.path)} cannot be told apart from another input")
    return f"{parts[-depth]}/{name}"
