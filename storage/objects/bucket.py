"""Objects of a bucket, or of a web server, by the same questions as those of a folder.

A put is atomic: nobody ever sees a part of an object, and nothing has to be cleared away but
uploads in pieces that were broken off, which no listing shows and only the bucket's own lifecycle
rule deletes. There is no lock: two writers at once are harmless, because what is committed is
created, never overwritten.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError

from storage.errors import ObjectMissingError, RemoteError, StoreError, UnsupportedError
from storage.objects.client import DEFAULT, Remote, RemoteConfig, open_remote
from storage.objects.protocol import Listing, Objects
from storage.objects.retry import POLICY
from storage.objects.urls import is_web
from storage.objects.web_answers import check_ranges, check_served
from storage.untrusted import check_plain, parse_json, record_of, whole_of

_PIECE_BYTES = 16_000_000  # of an upload in pieces
_PIECES_AT_ONCE = 4
_IN_FLIGHT = 16
_MD5 = re.compile(r'^"?([0-9a-f]{32})"?$')

Result = TypeVar("Result")


class RemoteObjects(Objects):
    """The objects below a URL. Safe to use from several threads; pickled, it opens again."""

    def __init__(
        self, url: str, listing: Listing | None = None, remote: RemoteConfig = DEFAULT
    ) -> None:
        self._listing = listing
        self.remote_config = remote
        self.remote: Remote = open_remote(url, remote)
        self.url = self.remote.url
        self._creates = True  # until the server says that it cannot
        self._has_bucket = False  # until the server shows something of it
        self._keeps_to_ranges = not is_web(self.remote.url)  # web servers: until they have shown it

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteObjects, (self.url, self._listing, self.remote_config)

    @cached_property
    def _writer(self) -> Remote:
        if is_web(self.url):
            raise StoreError(
                f"{self.url} can only be read: {urlsplit(self.url).scheme}:// takes no objects. "
                "Write to a folder or to s3://, gs:// or az://, and let the web server show that"
            )
        return open_remote(self.url, self.remote_config, writing=True)

    def describe(self, name: str) -> str:
        return self.remote.describe(name)

    def size(self, name: str) -> int:
        return int(self._head(name)["size"])

    def holds(self, name: str, data: bytes) -> bool:
        """Returns True if an object, which exists, has these bytes.

        It is read unless its etag is their md5, or, of an upload in pieces, what `put` would get:
        the md5 of the pieces' md5s and their number.
        """
        head = self._head(name)
        if head["size"] != len(data):
            return False
        tag = (head["e_tag"] or "").strip('"')
        return tag == _upload_tag(data, in_pieces="-" in tag) or self.get(name) == data

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        found: dict[str, int] = {}

        def ask(name: str) -> None:
            with suppress(ObjectMissingError):
                found[name] = self.size(name)

        _at_once(ask, list(names))
        return found

    def get(self, name: str) -> bytes:
        """Reads an object; again where it differs from the server's own md5, as far as it has one.

        Raises StoreError where it is missing.
        """

        def take(answer: Any) -> tuple[bytes, str]:
            data = bytes(answer.bytes())
            return data, _md5_of(data)

        return self._read_checked(name, take)

    def get_many(self, names: Sequence[str]) -> list[bytes]:
        return _at_once(self.get, names)

    def tail(self, name: str, length: int) -> bytes:
        def get(key: str) -> bytes:
            if not self._keeps_to_ranges:
                check_ranges(self.describe(name), self.remote.store, key)
                self._keeps_to_ranges = True
            answer = obstore.get(self.remote.store, key, options={"range": {"suffix": length}})
            return bytes(answer.bytes())

        return self.remote.call(name, get)

    def list(self, folder: str) -> list[str]:
        depth = folder.count("/") + 1
        return [name for name in self.walk(folder) if name.count("/") == depth]

    def walk(self, folder: str = "") -> dict[str, int]:
        if is_web(self.url):
            return self._listed(folder)
        start = len(self.remote.prefix) + 1 if self.remote.prefix else 0

        def list_all(key: str) -> dict[str, int]:
            pages = obstore.list(self.remote.store, key or None)
            return {entry["path"][start:]: entry["size"] for page in pages for entry in page}

        found = sorted(self._agreed(folder, list_all).items())
        return {name: size for name, size in found if "/." not in f"/{name}"}

    def put(self, name: str, data: bytes) -> None:
        """Puts an object; a large one in pieces."""
        pieces: dict[str, Any] = {"chunk_size": _PIECE_BYTES, "max_concurrency": _PIECES_AT_ONCE}
        self._writer.call(name, lambda key: obstore.put(self._writer.store, key, data, **pieces))

    def put_new(self, name: str, data: bytes) -> None:
        """Puts an object that must not exist yet; raises ObjectExistsError on other bytes.

        What came of it is looked at even so: not every server that knows conditional puts keeps
        two at the same instant apart.
        """
        if not self.exists(name):
            self._create(name, data)
        self._check_equal(name, data)

    def delete(self, name: str) -> None:
        with suppress(ObjectMissingError):
            self._writer.call(name, lambda key: obstore.delete(self._writer.store, key))

    def drop_folder(self, folder: str) -> None:
        """There are no folders: one is gone with its last object."""

    def entries(self) -> Sequence[str]:
        if is_web(self.url):
            return sorted({name.split("/")[0] for name in self.walk()})

        def list_top(key: str) -> Sequence[str]:
            found = obstore.list_with_delimiter(self.remote.store, key or None)
            paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
            return [path.rstrip("/").rpartition("/")[2] for path in paths]

        names = self._agreed("", list_top)
        return sorted(name for name in names if not name.startswith("."))

    def check_writable(self) -> None:
        _ = self._writer

    @contextmanager
    def as_file(self, name: str) -> Iterator[Path]:
        """A copy of an object under its own name, deleted afterwards; checked as `get` does.

        It takes the object's size of temporary disk.
        """
        with TemporaryDirectory(prefix="melbank-") as folder:
            path = Path(folder, name.rpartition("/")[2])

            def take(answer: Any) -> tuple[None, str]:
                with path.open("wb") as file:
                    return None, _hash_stream(answer, "md5", file.write)

            self._read_checked(name, take)
            yield path

    def digest(self, name: str) -> str:
        return self.remote.call(name, lambda key: _hash_stream(self._answer(name, key), "sha256"))

    def clear_temporary(self) -> None:
        """Nothing is left by killed writers that could be seen or deleted."""

    def _read_checked(self, name: str, take: Callable[[Any], tuple[Result, str]]) -> Result:
        """Reads an object until its md5 is the server's; `take` makes both of an answer."""
        seen: set[str] = set()

        def read(key: str) -> tuple[Result, bool]:
            answer = self._answer(name, key)
            result, md5 = take(answer)
            tag = _MD5.match(answer.meta["e_tag"] or "")
            is_valid = tag is None or md5 in (tag[1], *seen)  # the same twice: the tag is no md5
            seen.add(md5)
            return result, is_valid

        (result, _), _ = POLICY.read_valid(lambda: self.remote.call(name, read), itemgetter(1))
        return result

    def _answer(self, name: str, key: str, *, head: bool = False) -> Any:
        """Asks for an object, or for what `head` says of it; RemoteError where another comes."""
        answer = obstore.get(self.remote.store, key, options={"head": head})
        if is_web(self.url):
            check_served(self.describe(name), answer)
        return answer

    def _head(self, name: str) -> Any:
        """Metadata of an object on the server.

        The answer to HEAD gives no reason; that to GET says whether the bucket itself is missing.
        """
        try:
            head = self.remote.call(name, lambda key: self._answer(name, key, head=True).meta)
        except (ObjectMissingError, RemoteError) as error:
            if not (self._has_bucket and isinstance(error, ObjectMissingError)):
                with suppress(ObjectMissingError):
                    self.remote.call(name, lambda key: obstore.get(self.remote.store, key).meta)
                self._has_bucket = True
            raise
        self._has_bucket = True
        return head

    def _agreed(self, name: str, request: Callable[[str], Any]) -> Any:
        """Listing of objects; over plain http, which protects nothing, two equal ones in a row."""
        found = self.remote.call(name, request)
        for _ in range(0 if self.remote.is_guarded else POLICY.reads):
            before, found = found, self.remote.call(name, request)
            if before == found:
                break
        return found

    def _create(self, name: str, data: bytes) -> None:
        """Puts an object unless there is one; servers that cannot are told from others once."""

        store = self._writer.store
        if self._creates:
            try:
                with suppress(AlreadyExistsError):
                    self._writer.call(
                        name, lambda key: obstore.put(store, key, data, mode="create")
                    )
            except UnsupportedError:
                self._creates = False
        if not self._creates:
            self.put(name, data)

    def _listed(self, folder: str) -> dict[str, int]:
        """Reads the names and sizes from the set's own listing."""
        listing = self._listing
        if listing is None:
            raise StoreError(f"{self.url} cannot be listed: it is on a web server")
        try:
            entries = parse_json(self.get(listing.name))[listing.section]
            sizes = {
                check_plain(name): whole_of({listing.size_key: 0, **entry}, listing.size_key)
                for name, entry in record_of(entries).items()
            }
        except ObjectMissingError as error:
            raise StoreError(
                f"{self.url} cannot be listed and has no {listing.name}, which says what there is"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{self.describe(listing.name)} is damaged ({error!r}), and {self.url} cannot list"
            ) from error
        start = f"{folder}/" if folder else ""
        return {name: size for name, size in sorted(sizes.items()) if name.startswith(start)}


def _md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _upload_tag(data: bytes, *, in_pieces: bool) -> str:
    """Returns the etag that servers give to an upload, where it is made of md5s."""
    if not in_pieces:
        return _md5_of(data)
    view = memoryview(data)
    pieces = [view[begin : begin + _PIECE_BYTES] for begin in range(0, len(data), _PIECE_BYTES)]
    digests = (hashlib.md5(piece, usedforsecurity=False).digest() for piece in pieces)
    return f"{_md5_of(b''.join(digests))}-{len(pieces)}"


def _hash_stream(
    answer: Any, algorithm: str, write: Callable[[Any], object] = lambda piece: None
) -> str:
    """Returns the hash of an object's bytes, in hex, as they come; passes them on to `write`."""
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    for piece in answer.stream(_PIECE_BYTES):
        hasher.update(piece)
        write(piece)
    return hasher.hexdigest()


def _at_once(get: Callable[[str], Any], names: Sequence[str]) -> list[Any]:
    """Results of `get` for each name, in order; many requests in flight."""
    if len(names) < 2:
        return [get(name) for name in names]
    with ThreadPoolExecutor(min(_IN_FLIGHT, len(names))) as threads:
        return list(threads.map(get, names))
