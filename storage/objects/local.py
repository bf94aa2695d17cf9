"""Objects of a folder on a local file system."""

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path

from storage.errors import ConfigError, MelbankError, ObjectMissingError, StoreError
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.protocol import Objects
from storage.objects.urls import local_path
from storage.untrusted import MAX_JSON_BYTES, is_plain

TEMPORARY = ".tmp"


class LocalObjects(Objects):
    """The objects below a folder of a local file system."""

    def __init__(self, url: str, remote: RemoteConfig = DEFAULT) -> None:
        self.remote_config = remote
        self.url = url
        self.root = local_path(url)
        self._root = str(self.root)

    def path(self, name: str) -> Path:
        """Path of an object; StoreError where a name or a link leads out of the folder."""
        return Path(self._place(name))

    def _place(self, name: str) -> str:
        if name and not is_plain(name):
            raise StoreError(f"{self.url} can have no object {name!r}: it leads out of the folder")
        place = self._root
        for part in name.split("/"):
            place = f"{place}/{part}"
            if os.path.islink(place):
                self._check_inside(Path(place))
        return place

    def _check_inside(self, link: Path) -> None:
        try:
            inside = link.resolve().is_relative_to(self.root.resolve())
        except (OSError, RuntimeError):  # links in a circle
            inside = False
        if not inside:
            raise StoreError(
                f"{link} is a link that leads out of {self.url}, and such links are not followed: "
                "put the file or folder itself there"
            )

    def describe(self, name: str) -> str:
        return str(self.root / name)

    def exists(self, name: str) -> bool:
        return self.path(name).is_file()

    def size(self, name: str) -> int:
        path = self.path(name)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise ObjectMissingError(f"{path} is missing ({error.strerror})") from error
        if not path.is_file() or not os.access(path, os.R_OK):
            raise StoreError(f"{path} is no file that may be read: take it away")
        return size

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        found = {}
        for name in names:
            with contextlib.suppress(StoreError):
                found[name] = self.size(name)
        return found

    def get(self, name: str) -> bytes:
        with self._opened(name) as (file, _):
            return file.read()

    def tail(self, name: str, length: int) -> bytes:
        with self._opened(name) as (file, size_bytes):
            file.seek(max(0, size_bytes - length))
            return file.read()

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[tuple[BufferedReader, int]]:
        """An object's open file and size; StoreError on a pipe, a device, or JSON beyond reason."""
        path = self._place(name)
        try:
            # a pipe in the place of a file would else block for ever
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    raise StoreError(f"{path} is no file that may be read: take it away")
                if name.endswith(".json") and found.st_size > MAX_JSON_BYTES:
                    raise StoreError(f"{path} has {found.st_size:,} bytes, too many for its kind")
                yield file, found.st_size
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error

    def list(self, folder: str) -> list[str]:
        try:
            names = os.listdir(self.path(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(f"{folder}/{name}" for name in names if (self.root / folder / name).is_file())

    def walk(self, folder: str = "") -> dict[str, int]:
        found = {}
        for parent, folders, files in os.walk(self.path(folder)):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                path = Path(parent, name)
                if not name.startswith(".") and path.is_file():
                    found[path.relative_to(self.root).as_posix()] = path.stat().st_size
        return dict(sorted(found.items()))

    def put(self, name: str, data: bytes) -> None:
        with self._written(name, data) as temporary:
            os.replace(temporary, self.path(name))
            sync_folder(self.path(name).parent)

    def put_new(self, name: str, data: bytes) -> None:
        path = self.path(name)
        if path.exists():
            self._check_equal(name, data)
            return
        with self._written(name, data) as temporary:
            try:
                os.link(temporary, path)
            except OSError:  # it exists by now, or no hard links here (exFAT, network disks)
                if path.exists():
                    self._check_equal(name, data)
                else:
                    os.replace(temporary, path)
            sync_folder(path.parent)

    def delete(self, name: str) -> None:
        path = self.path(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path} cannot be deleted: {error.strerror}") from error

    def drop_folder(self, folder: str) -> None:
        with contextlib.suppress(OSError):
            self.path(folder).rmdir()

    def entries(self) -> Sequence[str]:
        try:
            names = os.listdir(self.root)
        except FileNotFoundError:
            return []
        except NotADirectoryError as error:
            raise ConfigError(f"{self.url} is a file; give a folder") from error
        return sorted(name for name in names if not name.startswith("."))

    def check_writable(self) -> None:
        """Raises StoreError where objects can only be read: writing itself will tell."""

    @contextlib.contextmanager
    def as_file(self, name: str) -> Iterator[Path]:
        """The object itself."""
        yield self.path(name)

    def digest(self, name: str) -> str:
        with self._opened(name) as (file, _):
            return hashlib.file_digest(file, "sha256").hexdigest()

    def clear_temporary(self) -> None:
        for name in self.list(TEMPORARY):
            self.delete(name)

    @contextlib.contextmanager
    def _written(self, name: str, data: bytes) -> Iterator[Path]:
        """A temporary file with the data, on disk, on the object's file system."""
        temporary = self.path(TEMPORARY) / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            for path in (temporary, self.path(name)):
                path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        except OSError as error:
            if isinstance(error, MelbankError):
                raise
            raise StoreError(
                f"{self.path(name)} ({len(data):,} bytes) cannot be written: {error.strerror}. "
                "Free space or give another folder, then run it again: it goes on where it was"
            ) from error
        finally:
            with contextlib.suppress(OSError):  # `clear_temporary` will find it
                temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes a new name in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
