"""The interface of folders and buckets: whole objects by name."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storage.errors import ObjectExistsError, ObjectMissingError
from storage.objects.client import RemoteConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """JSON object that lists a set's other objects, for web servers, which cannot list.

    Its `section` maps names to records, whose `size_key` is the size in bytes.
    """

    name: str
    section: str
    size_key: str


class Objects(Protocol):
    """Interface of the objects below a folder or a URL."""

    url: str
    remote_config: RemoteConfig

    def describe(self, name: str) -> str:
        """Location of an object, for messages."""

    def exists(self, name: str) -> bool:
        """True where there is an object of that name; RemoteError where there is no bucket."""
        try:
            self.size(name)
        except ObjectMissingError:
            return False
        return True

    def size(self, name: str) -> int:
        """An object's size in bytes; raises ObjectMissingError where it is missing."""

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """The sizes of those of some objects that there are, in bytes."""

    def holds(self, name: str, data: bytes) -> bool:
        """Returns True if an object, which exists, has these bytes."""
        return self.get(name) == data

    def get(self, name: str) -> bytes:
        """An object's bytes; raises StoreError where it is missing."""

    def get_many(self, names: Sequence[str]) -> list[bytes]:
        """Several objects, in order."""
        return [self.get(name) for name in names]

    def tail(self, name: str, length: int) -> bytes:
        """The last bytes of an object; all of a shorter one."""

    def list(self, folder: str) -> list[str]:
        """The names directly below a folder, sorted, folder included; empty where there is none."""

    def walk(self, folder: str = "") -> dict[str, int]:
        """All objects below a folder, by name, with their sizes in bytes; hidden ones left out."""

    def put(self, name: str, data: bytes) -> None:
        """Puts an object, in the place of an older one if there is one."""

    def put_new(self, name: str, data: bytes) -> None:
        """Puts an object that must not exist yet; raises ObjectExistsError on other bytes."""

    def delete(self, name: str) -> None:
        """Deletes an object; fine if it is gone already."""

    def drop_folder(self, folder: str) -> None:
        """Removes a folder, if it is there and empty."""

    def clear_temporary(self) -> None:
        """Deletes what killed writers left; only while nobody else writes."""

    def entries(self) -> Sequence[str]:
        """The names of objects and folders directly below, sorted; hidden ones left out."""

    def check_writable(self) -> None:
        """Raises StoreError where objects can only be read."""

    def as_file(self, name: str) -> AbstractContextManager[Path]:
        """A local file that holds an object, for as long as the context lasts."""

    def digest(self, name: str) -> str:
        """sha256 of an object of any size, in hex."""

    def _check_equal(self, name: str, data: bytes) -> None:
        if not self.holds(name, data):
            raise ObjectExistsError(
                f"{self.describe(name)} exists with other bytes: nothing committed is overwritten"
            )
