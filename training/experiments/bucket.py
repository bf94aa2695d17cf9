"""Experiments in a bucket: their numbers, their states, and files of them on this machine.

    states/exp_001/000000.json             takes the number; stays there
    states/exp_001/000007.json             a state: path, object, size and sha256 of each file
    weights/exp_001/fold_0.ckpt ...        the files, with the paths that they have in a folder

A training works in a folder of its machine, whose files are put into the bucket at some moments:
first those that have changed, each as a new object, then the state that names all of them, then
the objects that no state needs are deleted. The state of the highest number counts, so a kill at
any moment leaves the one before it complete.

A state is created, never overwritten (`If-None-Match: *`). Two processes that go on from the same
state both want the next number; one gets it, and the other one has to stop.

An object has the path of its file as its name, without leading dots. Where the last state has
other bytes under that name, digits of the sha256 are added: a checkpoint that is written again is
another object.
"""

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from storage.checksums import digest, digest_file
from storage.errors import (
    ConfigError,
    DamageError,
    ObjectExistsError,
    ObjectMissingError,
    StoreError,
)
from storage.objects.client import DEFAULT, RemoteConfig
from storage.objects.lock import hold_lock
from storage.objects.open import open_objects
from storage.objects.protocol import Objects
from storage.objects.retry import POLICY
from storage.output_files import output_file
from storage.untrusted import check_plain, parse_json, record_of, sha256_of, text_of, whole_of

STATES = "states"
FOLDERS = ("weights", "preds")  # with a folder of each experiment
CONFIGS = "configs"
IN_FLIGHT = 4  # files, each in memory
SETTLED_S = 0.5
LOCK_PATIENCE_S = 3600.0  # of processes of one machine that fetch the same experiment
DIGITS = 12
MAX_CREATED_BYTES = 4 * 10**9  # stores take 5 GB in one piece, and create objects in one alone
UNSHARED = "wandb"  # folder that another process writes while this one reads

Wanted = Callable[[str], bool]  # of a path below the root


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """The object of a file, its size and sha256."""

    object: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The files of an experiment by path below the root; `number` counts its states."""

    number: int = 0
    files: Mapping[str, StoredFile] = field(default_factory=dict)


class ExperimentBucket:
    """The experiments below a URL."""

    def __init__(self, url: str, remote: RemoteConfig = DEFAULT) -> None:
        self.objects: Objects = open_objects(url, remote=remote)
        self.url = self.objects.url
        self._remote = remote

    def entries(self) -> Iterator[str]:
        """Yields whatever may be named by the number of an experiment."""
        for kind in (STATES, *FOLDERS, CONFIGS):
            yield from open_objects(f"{self.url}/{kind}", remote=self._remote).entries()

    def names(self) -> list[str]:
        """Names of all experiments, those without any file too."""
        return list(open_objects(f"{self.url}/{STATES}", remote=self._remote).entries())

    def create(self, name: str) -> bool:
        """Takes a name; False where it was taken before, or by another process at this moment.

        Some servers let two that come at the same instant create an object, and keep the later one:
        so it is looked at again, after the time that a request takes.
        """
        mark, place = json.dumps({"by": _whoami()}).encode(), _state_name(name, 0)
        try:
            self.objects.put_new(place, mark)
        except ObjectExistsError:
            return False
        time.sleep(SETTLED_S)
        return self.objects.get(place) == mark

    def state(self, name: str) -> State | None:
        """The last state of an experiment; None where there is no such experiment.

        Raises DamageError on a state that is not as we write it.
        """
        for _ in range(POLICY.reads):
            number = max(self._numbers(name), default=None)
            if not number:
                return None if number is None else State()
            try:
                return self._read(name, number)
            except ObjectMissingError:  # a writer has gone on meanwhile, and deleted it
                continue
        raise StoreError(f"{self.url}: the states of {name} change too fast: try again later")

    def commit(self, name: str, before: State, files: Mapping[str, StoredFile]) -> State:
        """Makes the state after `before`; ConfigError where another process has made one."""
        state = State(number=before.number + 1, files=files)
        document = {
            "by": _whoami(),
            "files": {path: asdict(file) for path, file in sorted(files.items())},
        }
        data = json.dumps(document, indent=1).encode()
        try:
            if max(self._numbers(name), default=0) > before.number:
                raise ObjectExistsError
            self.objects.put_new(_state_name(name, state.number), data)
        except ObjectExistsError as error:
            raise ConfigError(
                f"{name} in {self.url} is trained by another process, which began after this one "
                "and has gone on from the last state in the bucket: this one stops"
            ) from error
        return state

    def clear(self, name: str, before: State, after: State) -> None:
        """Deletes the state before another one, and the objects that only that one has."""
        kept = {file.object for file in after.files.values()}
        for file in before.files.values():
            if file.object not in kept:
                self.objects.delete(file.object)
        if before.number:
            self.objects.delete(_state_name(name, before.number))

    def weights(self, name: str) -> list[str]:
        """The objects of an experiment's weights, those of no state too."""
        return list(self.objects.walk(f"weights/{name}"))

    def sweep(self, name: str, state: State, found: Sequence[str]) -> None:
        """Deletes earlier states, and weights that are of no state: a process was killed there.

        `found`: what `weights` gave before `state` was made. What has come since may be of a
        process that goes on from it while this one is suspended.
        """
        for number in self._numbers(name):
            if 0 < number < state.number:
                self.clear(name, self._read(name, number), state)
        kept = {file.object for file in state.files.values()}
        for place in found:
            if place not in kept:
                self.objects.delete(place)

    def put(self, path: str, data: bytes, before: StoredFile | None, taken: set[str]) -> StoredFile:
        """Puts the bytes of a file, unless the last state has them already; returns the object.

        `taken`: objects of the last state.
        """
        sha256 = digest(data)
        if before is not None and before.sha256 == sha256:
            return before
        plain = "/".join(part.lstrip(".") for part in path.split("/"))
        other = f"{plain}.{sha256[:DIGITS]}"
        is_large = len(data) > MAX_CREATED_BYTES
        place = other if is_large or plain in taken else plain
        try:
            if is_large:  # in pieces; whatever is replaced has the same bytes
                self.objects.put(place, data)
            else:
                self.objects.put_new(place, data)
        except ObjectExistsError:  # of a process that was killed before its state was there
            place = other
            self.objects.put_new(place, data)
        return StoredFile(object=place, size_bytes=len(data), sha256=sha256)

    def fetch(self, name: str, folder: Path, wanted: Wanted, *, exact: bool = True) -> State:
        """Brings files of an experiment into a folder; those that are there already stay.

        `exact`: wanted files that the experiment has not are deleted. Raises ConfigError where
        there is no such experiment, StoreError where its files are damaged.
        """
        busy = f"another process has been fetching {name} into {folder} for an hour: end that one"
        with hold_lock(folder / f".fetch_{name}", busy, patience_s=LOCK_PATIENCE_S):
            for _ in range(POLICY.reads):
                state = self.state(name)
                if state is None:
                    raise ConfigError(f"there is no experiment {name} in {self.url}")
                files = {path: file for path, file in state.files.items() if wanted(path)}
                try:
                    with ThreadPoolExecutor(IN_FLIGHT) as threads:
                        list(threads.map(lambda item: self._bring(folder, *item), files.items()))
                except ObjectMissingError:  # a writer has gone on meanwhile, and deleted it
                    if self.state(name) == state:
                        raise
                    continue
                if exact:
                    for path in local_paths(folder, name):
                        if wanted(path) and path not in files:
                            (folder / path).unlink()
                return state
        raise StoreError(f"{self.url}: the files of {name} change too fast: try again later")

    def _bring(self, folder: Path, path: str, file: StoredFile) -> None:
        target = folder / path
        has_size = target.is_file() and target.stat().st_size == file.size_bytes
        if has_size and digest_file(target) == file.sha256:
            return
        data, is_valid = POLICY.read_valid(
            lambda: self.objects.get(file.object), lambda data: digest(data) == file.sha256
        )
        if not is_valid:
            raise DamageError(
                f"{self.objects.describe(file.object)} differs from its sha256: put back a copy of "
                "it, or train this experiment again"
            )
        with output_file(target) as unfinished:
            unfinished.write_bytes(data)

    def _numbers(self, name: str) -> list[int]:
        places = (Path(path) for path in self.objects.list(f"{STATES}/{name}"))
        return [int(place.stem) for place in places if place.stem.isdigit()]

    def _read(self, name: str, number: int) -> State:
        place = _state_name(name, number)
        try:
            entries = record_of(record_of(parse_json(self.objects.get(place))).get("files"))
            files = {
                _checked_path(path, name): _stored_file(record_of(entry))
                for path, entry in entries.items()
            }
        except ValueError as error:
            raise DamageError(
                f"{self.objects.describe(place)} is damaged ({error}): put back a copy of it, or "
                "delete it to go on from the state before it, if there is one"
            ) from error
        return State(number=number, files=files)


def local_paths(folder: Path, name: str) -> list[str]:
    """Files of an experiment in a folder, by path below it; not W&B's own."""
    found = [folder / CONFIGS / f"{name}.yaml", folder / CONFIGS / f".{name}"]
    for kind in FOLDERS:
        for parent, folders, files in os.walk(folder / kind / name):
            folders[:] = [each for each in folders if each != UNSHARED]
            found += [Path(parent, file) for file in files]
    paths = [path for path in found if path.is_file() and not path.is_symlink()]
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _state_name(name: str, number: int) -> str:
    return f"{STATES}/{name}/{number:06d}.json"


def _whoami() -> str:
    """A process, by its machine, its number and a token that no other one has."""
    return f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(8)}"


def _checked_path(path: str, name: str) -> str:
    """Returns the path of a file; ValueError unless it is one of the experiment's own."""
    parts = check_plain(path).split("/")
    own = parts[0] in FOLDERS and len(parts) > 2 and parts[1] == name
    if not own and path not in (f"{CONFIGS}/{name}.yaml", f"{CONFIGS}/.{name}"):
        raise ValueError(f"{path!r} is no file of {name}")
    return path


def _stored_file(entry: dict[str, Any]) -> StoredFile:
    return StoredFile(
        object=check_plain(text_of(entry, "object")),
        size_bytes=whole_of(entry, "size_bytes"),
        sha256=sha256_of(entry, "sha256"),
    )
