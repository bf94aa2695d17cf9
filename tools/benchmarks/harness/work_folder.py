"""A folder for what a benchmark makes, gone when it is done."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import ConfigError


@contextmanager
def work_folder(work_dir: str) -> Iterator[Path]:
    """A folder in a given one or where temporary ones are; ConfigError where there is no such."""
    if work_dir and not Path(work_dir).is_dir():
        raise ConfigError(f"benchmark.work_dir={work_dir}: there is no such folder")
    with tempfile.TemporaryDirectory(dir=work_dir or None, prefix="melbank-") as folder:
        yield Path(folder)
