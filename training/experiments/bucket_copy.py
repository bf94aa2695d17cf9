"""One experiment of a bucket, with the folder of this machine in which it is trained.

copy = BucketCopy(ExperimentBucket("s3://birds/experiments"), "exp_001", folder)
copy.restore()    # the last state in the bucket, and nothing else, is in the folder
copy.publish()    # the folder is the last state in the bucket
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from storage.errors import StoreError
from training.experiments.bucket import (
    CONFIGS,
    FOLDERS,
    IN_FLIGHT,
    ExperimentBucket,
    State,
    StoredFile,
    local_paths,
)

Stamp = tuple[int, int, int]  # inode, size, time of change


class BucketCopy:
    """The files of one experiment in a folder, and the last state that this process knows."""

    def __init__(self, bucket: ExperimentBucket, name: str, folder: Path) -> None:
        self.bucket = bucket
        self.name = name
        self.folder = folder
        self._state = State()
        self._is_first = True  # of what this process publishes
        self._stamps: dict[str, Stamp] = {}

    def describe(self, path: Path) -> str:
        """Location in the bucket of a file or folder of the working folder."""
        return self.bucket.objects.describe(path.relative_to(self.folder).as_posix())

    def restore(self) -> None:
        """Makes the folder equal to the last state.

        The mark stays as it is: it is locked, and another file in its place would not be.
        """
        mark = f"{CONFIGS}/.{self.name}"
        self._state = self.bucket.fetch(self.name, self.folder, lambda path: path != mark)
        for kind in FOLDERS:
            (self.folder / kind / self.name).mkdir(parents=True, exist_ok=True)

    def fetch(self, paths: Sequence[Path] = ()) -> None:
        """Brings some files of the last state into the folder; without any, makes it equal."""
        wanted = {path.relative_to(self.folder).as_posix() for path in paths}
        self.bucket.fetch(self.name, self.folder, lambda path: not wanted or path in wanted)

    def publish(self) -> None:
        """Makes the folder the next state.

        Raises ConfigError where another process goes on with the experiment by now, StoreError
        where the bucket refuses.
        """
        before, stamps = self._state, {}
        taken = {file.object for file in before.files.values()}

        def put(path: str) -> StoredFile:
            file, known = self.folder / path, before.files.get(path)
            stamps[path] = _stamp(file)
            if known is not None and self._stamps.get(path) == stamps[path]:
                return known
            return self.bucket.put(path, file.read_bytes(), known, taken)

        paths = local_paths(self.folder, self.name)
        with ThreadPoolExecutor(IN_FLIGHT) as threads:
            files = dict(zip(paths, threads.map(put, paths), strict=True))
        found = self.bucket.weights(self.name) if self._is_first else []
        self._state = self.bucket.commit(self.name, before, files)
        self._stamps = stamps
        if self._is_first:
            self.bucket.sweep(self.name, self._state, found)
            self._is_first = False
        else:
            self.bucket.clear(self.name, before, self._state)


def _stamp(file: Path) -> Stamp:
    try:
        found = os.stat(file)
    except OSError as error:
        raise StoreError(
            f"{file} cannot be read ({error.strerror}): is another process at work in this folder?"
        ) from error
    return found.st_ino, found.st_size, found.st_mtime_ns
