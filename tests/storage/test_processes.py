"""The number of cores, by affinity and container quota; the environment of workers."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.errors import StoreError
from storage.processes import Work, map_jobs, num_cores


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "10000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": ""}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
    ],
    ids=["one and a half", "one", "a tenth", "no limit", "empty", "version 1", "version 1, none"],
)
def test_cores_respect_the_quota_of_a_container(
    tmp_path: Path, files: dict[str, str], limit: int | None
) -> None:
    usual = num_cores(tmp_path / "absent")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert num_cores(tmp_path) == min(usual, limit or usual)


def test_workers_have_the_environment_that_their_parent_has_by_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work: Work[str, object] = Work(run=os.getenv, module="os", option="build.workers")
    for token in ("stale", "fresh"):  # the server of all workers starts with the first
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
        jobs = {number: lambda: "AWS_SESSION_TOKEN" for number in range(2)}
        assert dict(map_jobs(work, jobs, 2, lambda _: None)) == {0: token, 1: token}
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    with pytest.raises(RuntimeError, match="SimpleQueue"):  # getenv's default: no token is there
        dict(map_jobs(work, jobs, 2, lambda _: None))


def advance(job: int, on_progress: Callable[[int], None]) -> None:
    for _ in range(job):
        on_progress(1)


def test_all_progress_arrives_also_that_of_quick_jobs() -> None:
    work: Work[int, None] = Work(run=advance, module=advance.__module__, option="build.workers")
    for _ in range(5):
        seen: list[int] = []
        list(map_jobs(work, {number: lambda: 30 for number in range(4)}, 2, seen.append))
        assert sum(seen) == 120


def die(job: bytes, on_progress: Callable[[int], None]) -> None:
    time.sleep(0.3)  # until the pipe is full
    os._exit(1)


def test_a_pool_ends_whose_workers_die_while_large_jobs_are_written_to_them() -> None:
    work: Work[bytes, None] = Work(run=die, module=die.__module__, option="build.workers")
    jobs = {number: lambda: bytes(2_000_000) for number in range(8)}  # a pipe holds 64 kB
    with pytest.raises(StoreError, match="worker processes were killed"):
        list(map_jobs(work, jobs, 2, lambda _: None))
