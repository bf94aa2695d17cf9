"""Files of recordings, in a folder of this machine or in a bucket.

Those in a bucket are listed by one walk, and fetched into a temporary file for as long as they are
looked at: once for the first look at all of them, which every build begins with, once more to be
cut. A temporary file per thread or worker is all the disk it takes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from storage.errors import ConfigError
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.open import open_objects
from storage.objects.protocol import Objects
from storage.objects.urls import is_remote, is_web
from storage.source.listing import Listing, list_folder, list_names, shown_name


class SourceFolder(Protocol):
    """Interface of a folder of recordings; names are relative to it."""

    def path(self, name: str) -> str:
        """Path or URL of a file."""

    def has_file(self, name: str) -> bool:
        """True where there is a file of that name."""

    def has_folder(self, name: str) -> bool:
        """True where there is a folder of that name."""

    def table(self, name: str) -> bytes:
        """The bytes of a csv."""

    def listing(self) -> Listing:
        """The files below, sorted by kind; an empty listing where they cannot be listed."""

    def below(self, name: str) -> "SourceFolder":
        """A folder in it."""


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, name: str) -> str:
        return str(self._root / name)

    def has_file(self, name: str) -> bool:
        return (self._root / name).is_file()

    def has_folder(self, name: str) -> bool:
        return (self._root / name).is_dir()

    def table(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def listing(self) -> Listing:
        return list_folder(self._root)

    def below(self, name: str) -> "LocalFolder":
        return LocalFolder(self._root / name)


class RemoteFolder:
    """A folder in a bucket; on a web server too, where only a csv can name the recordings."""

    def __init__(self, objects: Objects, names: frozenset[str] | None, inside: str = "") -> None:
        self._objects = objects
        self._names = names
        self._inside = PurePosixPath(inside)

    @classmethod
    def open(cls, url: str, remote: RemoteConfig = DEFAULT) -> "RemoteFolder":
        """Lists a folder; raises ConfigError where it is empty."""
        objects = open_objects(url, remote=remote)
        if is_web(url):
            return cls(objects, None)
        names = frozenset(objects.walk())
        if not names:
            raise ConfigError(f"source.root={url}: there is no such folder, or nothing in it")
        return cls(objects, names)

    def path(self, name: str) -> str:
        return f"{self._objects.url}/{quote(self._name(name))}".rstrip("/")

    def has_file(self, name: str) -> bool:
        if self._names is None:
            return self._objects.exists(self._name(name))
        return self._name(name) in self._names

    def has_folder(self, name: str) -> bool:
        start = f"{self._name(name)}/".lstrip("/")
        return any(other.startswith(start) for other in self._names or ())

    def table(self, name: str) -> bytes:
        return self._objects.get(self._name(name))

    def listing(self) -> Listing:
        start = f"{self._name('')}/".lstrip("/")
        inside = (name for name in self._names or () if name.startswith(start))
        return list_names(name.removeprefix(start) for name in inside)

    def below(self, name: str) -> "RemoteFolder":
        return RemoteFolder(self._objects, self._names, self._name(name))

    def _name(self, name: str) -> str:
        path = self._inside / name
        return str(path) if path.parts else ""


class RecordingFiles:
    """Opens recordings as local files. Safe to use from several threads."""

    def __init__(self, remote: RemoteConfig = DEFAULT) -> None:
        self._remote = remote
        self._buckets: dict[str, Objects] = {}

    @contextmanager
    def open(self, path: str) -> Iterator[Path]:
        """The file at a path; of what is at a URL a copy, deleted afterwards.

        ObjectMissingError where a URL leads nowhere, StoreError where it cannot be fetched.
        """
        if not is_remote(path):
            yield Path(path)
            return
        parts = urlsplit(path)
        bucket = f"{parts.scheme}://{parts.netloc}"
        if bucket not in self._buckets:
            self._buckets.setdefault(bucket, open_objects(bucket, remote=self._remote))
        key = "/".join(part for part in unquote(parts.path).split("/") if part)
        with self._buckets[bucket].as_file(key) as file:
            yield file


def open_folder(root: str, remote: RemoteConfig = DEFAULT) -> SourceFolder:
    """The folder of source.root; raises ConfigError where there is none."""
    if is_remote(root):
        return RemoteFolder.open(root, remote)
    if shown_name(root) != root:
        raise ConfigError(f"source.root={shown_name(root)}: its name is not UTF-8: rename it")
    if not Path(root).is_dir():
        what = "is a file; give its folder" if Path(root).is_file() else "there is no such folder"
        raise ConfigError(f"source.root={root}: {what}")
    return LocalFolder(Path(root))


def file_name(path: str) -> str:
    """The name of the file at a path or URL, for messages."""
    return PurePosixPath(unquote(path) if is_remote(path) else path).name
