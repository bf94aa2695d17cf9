"""Objects of a folder on a local file system."""

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from storage.checksums import digest_file
from storage.errors import ConfigError, MelbankError, ObjectMissingError, StoreError
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.protocol import Objects
from storage.objects.urls import local_path

TEMPORARY = ".tmp"


class LocalObjects(Objects):
    """The objects below a folder of a local file system."""

    def __init__(self, url: str, remote: RemoteConfig = DEFAULT) -> None:
        self.remote_config = remote
        self.url = url
        self.root = local_path(url)

    def path(self, name: str) -> Path:
        """Path of an object."""
        return self.root / name

    def describe(self, name: str) -> str:
        return str(self.path(name))

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
        try:
            return self.path(name).read_bytes()
        except OSError as error:
            raise StoreError(f"{self.path(name)} cannot be read: {error.strerror}") from error

    def tail(self, name: str, length: int) -> bytes:
        try:
            with self.path(name).open("rb") as file:
                file.seek(-length, os.SEEK_END)
                return file.read()
        except OSError as error:
            raise StoreError(f"{self.path(name)} cannot be read: {error.strerror}") from error

    def list(self, folder: str) -> list[str]:
        try:
            entries = list(os.scandir(self.path(folder)))
        except FileNotFoundError:
            return []
        return sorted(f"{folder}/{entry.name}" for entry in entries if entry.is_file())

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
            _sync_folder(self.path(name).parent)

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
            _sync_folder(path.parent)

    def delete(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

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
        return digest_file(self.path(name))

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


def _sync_folder(folder: Path) -> None:
    """Makes a new name in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
