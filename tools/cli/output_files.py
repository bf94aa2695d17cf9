"""Files that a command was asked to write: checked before the work, put in place when whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import ConfigError, StoreError

MAX_PANELS = 64  # of a contact sheet


def check_output(flag: str, target: str | None) -> None:
    """Raises ConfigError where there can be no such file, and makes its folder.

    Asked before long work, so that a mistyped path costs nothing.
    """
    if target is None:
        return
    if Path(target).is_dir():
        raise ConfigError(f"{flag} {target} is a folder; give the path of a file")
    make_folder(flag, Path(target).parent)


def make_folder(flag: str, folder: Path) -> None:
    """Makes a folder if there is none; raises ConfigError where there can be none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{flag}: the folder {folder} cannot be made ({error.strerror}); give another path"
        ) from error


@contextmanager
def output_file(target: Path) -> Iterator[Path]:
    """A path next to the target, which takes its place at the end; nothing is left half written.

    Raises StoreError where the disk refuses.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(target)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"{target} cannot be written ({error.strerror or error}): free space or give another "
            "path"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
