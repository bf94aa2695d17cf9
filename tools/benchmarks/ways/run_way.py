"""Runs one way of reading in this process and measures it. Knows nothing of melbank.

    python -I run_way.py SPEC.json RESULT.json

SPEC names a module of this folder by its file and a function of it; see `tools/benchmarks/ways`.
One core, one thread; CPU time is that of all threads of the process. Bytes are those of
/proc/self/io, sizes are resident ones, with the pages of mapped files.
"""

import importlib.metadata
import importlib.util
import json
import os
import resource
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

Batch = tuple[torch.Tensor, np.ndarray]
Epoch = Callable[[list[np.ndarray], int], Iterator[Batch]]

WARM_UP_S = 0.3


def main(spec_file: str, result_file: str) -> None:
    """Does what SPEC asks for: write, read or epochs."""
    bare_bytes = resident_bytes("VmRSS")
    spec = json.loads(Path(spec_file).read_text(encoding="utf-8"))
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    job = {"write": write, "read": read, "epochs": epochs}[spec["job"]]
    result = job(spec, bare_bytes)
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


def write(spec: dict[str, Any], _: int) -> dict[str, Any]:
    """Lets a module write its copy of the slices; returns the versions of these packages."""
    cells = np.load(spec["cells"], mmap_mode="r")
    getattr(load(spec), spec["function"])(cells, Path(spec["target"]))
    return {name: importlib.metadata.version(name) for name in spec["packages"]}


def read(spec: dict[str, Any], bare_bytes: int) -> dict[str, Any]:
    """Measures epochs: from the second one on and for `least_s` where warm, one where cold.

    The result is per slice, but for the memory. Where `check` asks for it, what comes in one more
    epoch is compared with what is planned, or with all slices where the way `streams`.
    """
    plans = load_plans(spec)
    begin = io_bytes()
    epoch: Epoch = getattr(load(spec), spec["function"])(Path(spec["target"]), spec["about"])
    if not spec["cold"]:
        warm_up(epoch(plans[0], 0))
        begin = io_bytes()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    ends = wall_s + (0.0 if spec["cold"] else spec["least_s"])
    count = epoch_no = 0
    while not count or time.perf_counter() < ends:
        epoch_no = (epoch_no + 1) % len(plans)
        for slices, _ in epoch(plans[epoch_no], epoch_no):
            count += len(slices)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    end = io_bytes()
    above_bytes = resident_bytes("VmHWM") - bare_bytes
    if spec["check"]:
        check(epoch(plans[0], 0), None if spec["streams"] else np.concatenate(plans[0]), spec)
    return {
        "wall_s": wall_s / count,
        "cpu_s": cpu_s / count,
        "asked_bytes": (end["rchar"] - begin["rchar"]) / count,
        "disk_bytes": (end["read_bytes"] - begin["read_bytes"]) / count,
        "above_torch_bytes": above_bytes,
    }


def epochs(spec: dict[str, Any], _: int) -> dict[str, Any]:
    """Measures the epochs of the plans from nothing on: opening is in the first one.

    `least_epochs` at least, no more than begin within `enough_s`. CPU time is that of this process
    and of those that it has waited for. What the proxy at `counts_url` has counted is taken after
    each, where one is given; what came is checked there.
    """
    way = getattr(load(spec), spec["function"])
    results, epoch, first_batch_s = [], None, 0.0
    ends = time.perf_counter() + spec["enough_s"]
    for epoch_no, plan in enumerate(load_plans(spec)):
        if epoch_no >= spec["least_epochs"] and time.perf_counter() > ends:
            break
        came = []
        wall_s, cpu_s = time.perf_counter(), used_cpu_s()
        epoch = epoch or way(Path(spec["target"]), spec["about"])
        for slices, numbers in epoch(plan, epoch_no):
            first_batch_s = first_batch_s or time.perf_counter() - wall_s
            came.append((slices.clone(), numbers))
        wall_s, cpu_s = time.perf_counter() - wall_s, used_cpu_s() - cpu_s
        counts = fetch_counts(spec["counts_url"])
        wanted = np.concatenate(plan)
        check(came, wanted, spec)
        one = {"wall_s": wall_s, "cpu_s": cpu_s, "counts": counts, "num_slices": len(wanted)}
        results.append(one)
    return {"first_batch_s": first_batch_s, "epochs": results}


def used_cpu_s() -> float:
    """CPU time of this process, all threads, and of those that it has waited for, s."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def fetch_counts(url: str) -> Any:
    """Returns what a proxy has counted; None where there is no proxy."""
    if not url:
        return None
    with urllib.request.urlopen(url) as answer:
        return json.loads(answer.read())


def load_plans(spec: dict[str, Any]) -> list[list[np.ndarray]]:
    """Reads the numbers that each epoch's batches are to have."""
    plans = [np.load(file) for file in spec["plans"]]
    size = spec["about"]["batch_size"]
    return [np.split(plan, range(size, len(plan), size)) for plan in plans]


def warm_up(batches: Iterator[Batch]) -> None:
    """Takes the first batches, so that files are open and caches filled."""
    ends = time.perf_counter() + WARM_UP_S
    for _ in batches:
        if time.perf_counter() > ends:
            break
    close = getattr(batches, "close", None)
    if close is not None:
        close()


def check(batches: Iterable[Batch], wanted: np.ndarray | None, spec: dict[str, Any]) -> None:
    """Raises ValueError unless batches have the wanted slices, in any order; None: all slices."""
    cells = np.load(spec["cells"], mmap_mode="r")
    rows = np.load(spec["rows"]) if spec["rows"] else None  # of all slices, where numbers are rows
    came = [np.empty(0, np.int64)]
    for slices, numbers in batches:
        if slices.shape[1:] != cells.shape[1:] or str(slices.dtype) != f"torch.{cells.dtype}":
            raise ValueError(f"batches are {slices.dtype} {list(slices.shape)}")
        came.append(np.asarray(numbers) if rows is None else np.searchsorted(rows, numbers))
        if not np.array_equal(slices.numpy(), cells[came[-1]]):
            raise ValueError("the cells of the slices that came differ from those written")
    found = np.sort(np.concatenate(came))
    if not np.array_equal(found, np.arange(len(cells)) if wanted is None else np.sort(wanted)):
        raise ValueError(f"{len(found)} slices came, and they are not those asked for")


def load(spec: dict[str, Any]) -> ModuleType:
    """The module of a way, by its file; ours finds the project."""
    if spec["project"]:
        sys.path.insert(0, spec["project"])
    file = Path(spec["module"])
    found = importlib.util.spec_from_file_location(f"way_{file.stem}", file)
    if found is None or found.loader is None:
        raise ImportError(f"{file} is no Python module")
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


def io_bytes() -> dict[str, int]:
    """Bytes that this process has read so far: rchar by system calls, read_bytes from the disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(value) for name, _, value in (line.partition(": ") for line in lines)}


def resident_bytes(entry: str) -> int:
    """Resident size of this process: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{entry}:"))


if __name__ == "__main__":
    main(*sys.argv[1:])
