"""Builds parts in a pool of worker processes here, or on a Dask cluster."""

from collections.abc import Iterator

from storage.build.dask import LOCAL, build_on_cluster
from storage.build.plan import PartJob, PartReport
from storage.processes import OnProgress, Work, map_jobs


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
    makers = {job.range.part: lambda job=job: job for job in jobs}
    for _, report in map_jobs(work, makers, workers, on_slices):
        yield report


def _build_part(job: PartJob, on_slices: OnProgress) -> PartReport:
    from storage.build.part import build_part  # with workers, only they pay for importing torch

    return build_part(job, on_slices)
