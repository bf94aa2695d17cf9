"""Maps part jobs over the workers of a Dask cluster that is running already.

    PYTHONPATH=. dask scheduler --host HOST
    PYTHONPATH=. dask worker tcp://HOST:8786 --nthreads 1    # on each machine, one per core
    python -m tools.build_store executor=dask://HOST:8786

Scheduler and workers run in this project's folder, with the same packages, and see the source and
the store under the same paths, or have both in a bucket. Workers of another version are refused.
A part whose worker died is given to another one: its puts accept equal bytes, and what is committed
is not built again, so nothing is lost and nothing is written twice. Needs the extra `dask`.
"""

import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl

from storage.build.code_version import code_version, version_difference
from storage.build.plan import PartJob, PartReport
from storage.errors import ConfigError, StoreError
from storage.format.manifest import NAME as MANIFEST
from storage.format.tables import INDEX, read_table, table_name
from storage.objects.open import open_objects
from storage.objects.urls import is_remote

LOCAL, SCHEME = "local", "dask://"
CONNECT_S = 10.0
FIRST_WORKER_S = 30.0
NO_WORKER_S = 60.0
POLL_S = 5.0
NOISY_LOGGERS = ("distributed", "distributed.client", "tornado.application")
OTHER_VERSION = (
    "has another version ({}), and might make other bytes: bring its checkout and packages to the "
    "state of this one and start it again"
)


def check_executor(executor: str) -> None:
    """Raises ConfigError unless `executor` is local or dask://HOST:PORT."""
    if not re.fullmatch(rf"{LOCAL}|{SCHEME}[^/\s]+:\d{{1,5}}", executor):
        raise ConfigError(
            f"executor={executor} is neither local nor {SCHEME}HOST:PORT, such as "
            f"{SCHEME}localhost:8786"
        )


def build_on_cluster(
    jobs: list[PartJob], executor: str, on_slices: Callable[[int], None]
) -> Iterator[PartReport]:
    """Builds parts on a cluster and yields each report as it comes.

    Raises ConfigError where there is no such cluster or Dask is not installed, StoreError where
    the cluster is lost on the way.
    """
    with _connected(executor) as client:
        pool = client.get_executor(pure=False)
        version = code_version()
        left = {pool.submit(_build_here, _absolute(job), version): job for job in jobs}
        last_seen_s = time.monotonic()
        while left:
            last_seen_s = _last_seen_s(client, executor, last_seen_s)
            done, _ = wait(left, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                job = left.pop(future)
                yield _report_of(future, job, executor)
                on_slices(int(job.recordings["expected_slices"].sum()))


def _is_no_timeout(record: logging.LogRecord) -> bool:
    """False for a timeout of Dask's own sending that falls into the close of its client.

    Nobody asks for it then, which asyncio reports after a good build.
    """
    return not (record.exc_info and isinstance(record.exc_info[1], TimeoutError))


def _last_seen_s(client: Any, executor: str, before_s: float) -> float:
    """The time when the cluster last had workers; StoreError where that is a minute ago."""
    try:
        there = client.nthreads()
    except OSError as error:
        raise _lost(executor) from error
    now_s = time.monotonic()
    if not there and now_s - before_s > NO_WORKER_S:
        raise StoreError(
            f"the cluster {executor} has had no worker for {NO_WORKER_S:.0f} s: look into their "
            "logs, start new ones, then run this again. What is committed stays"
        )
    return now_s if there else before_s


@contextmanager
def _connected(executor: str) -> Iterator[Any]:
    """A client of the cluster, closed at the end."""
    try:
        distributed: Any = import_module("distributed")  # an extra: most people need no cluster
    except ImportError as error:
        raise ConfigError(
            f"executor={executor} needs Dask, which is not installed: uv sync --extra dask, or "
            "pip install distributed"
        ) from error
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # their errors become ours, below
    logging.getLogger("asyncio").addFilter(_is_no_timeout)
    address = f"tcp://{executor.removeprefix(SCHEME)}"
    try:
        client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except OSError as error:
        raise ConfigError(
            f"executor={executor}: no Dask scheduler answered within {CONNECT_S:.0f} s; start one "
            "with: dask scheduler"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=FIRST_WORKER_S)
        except TimeoutError as error:
            raise ConfigError(
                f"the cluster {executor} has no workers; start some with: dask worker {address}"
            ) from error
        _check_code(client, executor)
        yield client


def _check_code(client: Any, executor: str) -> None:
    """Raises ConfigError where scheduler or workers lack melbank, or have another version of it."""

    def find_version() -> dict[str, str] | None:  # not a global, so Dask sends it whole
        from importlib import import_module
        from importlib.util import find_spec

        try:
            if find_spec("storage.build.part") is None:
                return None
            found: dict[str, str] = import_module("storage.build.code_version").code_version()
        except ModuleNotFoundError:  # not even its parent, or a version that knows none
            package = find_spec("storage")  # without an origin: a folder that Dask spills to
            return {} if package and package.origin else None
        return found

    found = {"the scheduler": client.run_on_scheduler(find_version), **client.run(find_version)}
    for name, there in found.items():
        if there is None:
            raise ConfigError(
                f"{executor}: {name} cannot import melbank; start the scheduler and all "
                f"workers in the project's folder, with PYTHONPATH=. and the same packages"
            )
        if name != "the scheduler" and (difference := version_difference(code_version(), there)):
            raise ConfigError(f"{executor}: worker {name} {OTHER_VERSION.format(difference)}")


def _report_of(future: "Future[PartReport]", job: PartJob, executor: str) -> PartReport:
    killed: Any = import_module("distributed").KilledWorker
    try:
        return future.result()
    except killed as error:
        raise StoreError(
            f"part {job.range.part} cost one Dask worker after the other its life, most likely "
            "because memory ran out: start workers with more. What is committed stays"
        ) from error
    except CancelledError as error:
        raise _lost(executor) from error


def _lost(executor: str) -> StoreError:
    return StoreError(
        f"the scheduler of {executor} went away: start it and its workers, then run this again. "
        "What is committed stays"
    )


def _absolute(job: PartJob) -> PartJob:
    """The same job for a process in another folder."""
    paths = pl.Series("path", map(_absolute_path, job.recordings["path"]), pl.String)
    recordings = job.recordings.with_columns(paths)
    return replace(job, url=_absolute_path(job.url), recordings=recordings)


def _absolute_path(path: str) -> str:
    return path if "://" in path else str(Path(path).absolute())


def _build_here(job: PartJob, version: dict[str, str]) -> PartReport:
    """Runs on a worker, whose own environment has the credentials.

    Another one may have committed the part, and was lost before it could say so.
    """
    from storage.build.part import build_part  # only workers need torch

    if difference := version_difference(version, code_version()):  # it has come meanwhile
        raise StoreError(
            f"the Dask worker on {socket.gethostname()} {OTHER_VERSION.format(difference)}"
        )
    check_shared(job)
    objects = open_objects(job.url, remote=job.remote)
    if objects.exists(table_name(INDEX, job.range.part)):
        num_slices = len(read_table(objects, INDEX, job.range.part))
        return PartReport(part=job.range.part, num_slices=num_slices)
    return build_part(job)


def check_shared(job: PartJob) -> None:
    """Raises StoreError on a worker that lacks the folders: recordings would seem to be lost."""
    usable = job.recordings.filter(pl.col("reason").is_null() & pl.col("duplicate_of").is_null())
    paths = [path for path in usable["path"] if not is_remote(path)]
    lacks = "" if open_objects(job.url, remote=job.remote).exists(MANIFEST) else job.url
    if not lacks and paths and not any(Path(path).exists() for path in paths):
        lacks = paths[0]
    if lacks:
        raise StoreError(
            f"the Dask worker on {socket.gethostname()} does not see {lacks}: store and source "
            "must be in folders that all workers share, under the same paths"
        )
