"""Builds parts in a pool of worker processes here, or on a Dask cluster."""

from collections.abc import Callable, Iterator
from functools import partial

from storage.build.dask import build_on_cluster, check_cluster
from storage.build.jobs import PartJob, PartReport
from storage.processes import OnProgress, Work, map_jobs

LOCAL = "local"


def check_executor(executor: str) -> None:
    """Raises ConfigError unless `executor` is local or dask://HOST:PORT."""
    if executor != LOCAL:
        check_cluster(executor)


def build_parts(
    jobs: list[PartJob], workers: int, on_slices: OnProgress, executor: str = LOCAL
) -> Iterator[PartReport]:
    """Builds parts and yields each report as it comes; `on_slices` is called with progress.

    `workers` are processes here, see `map_jobs`. A cluster has as many workers as it has, and
    reports progress in complete parts only.
    """
    if executor != LOCAL:
        yield from build_on_cluster(jobs, executor, on_slices)
        return
    work = Work(run=_build_part, module="storage.build.part", option="build.workers")
    makers: dict[int, Callable[[], PartJob]] = {job.range.part: partial(_same, job) for job in jobs}
    for _, report in map_jobs(work, makers, workers, on_slices):
        yield report


def _build_part(job: PartJob, on_slices: OnProgress) -> PartReport:
    from storage.build.part import build_part  # with workers, only they pay for importing torch

    return build_part(job, on_slices)


def _same(job: PartJob) -> PartJob:
    return job
