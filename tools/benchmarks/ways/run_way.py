"""Runs one way of reading in this process and measures it. Knows nothing of melbank.

    python -I run_way.py SPEC.json RESULT.json

SPEC names a module of this folder by its file and a function of it; see `tools/benchmarks/ways`.
One core, one thread; CPU time is that of all threads of the process. Bytes are those of
/proc/self/io, sizes are resident ones, with the pages of mapped files.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import struct
import sys
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

Batch = tuple[torch.Tensor, np.ndarray]
Epoch = Callable[[np.ndarray, int], Iterator[Batch]]

WARM_UP_S = 0.3


def main(spec_file: str, result_file: str) -> None:
    """Does what SPEC asks for: write, expect, read or epochs."""
    bare_bytes = resident_bytes("VmRSS")
    spec = json.loads(Path(spec_file).read_text(encoding="utf-8"))
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    job = {"write": write, "expect": expect, "read": read, "epochs": epochs}[spec["job"]]
    result = job(spec, bare_bytes)
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


def write(spec: dict[str, Any], _: int) -> dict[str, Any]:
    """Lets a module write its copy of the slices."""
    module = load(spec)
    module.write(np.load(spec["cells"], mmap_mode="r"), Path(spec["target"]))
    return {"versions": versions(spec["packages"])}


def expect(spec: dict[str, Any], _: int) -> dict[str, Any]:
    """Expected results of the first epoch and of a full pass, from the slices themselves."""
    cells = np.load(spec["cells"], mmap_mode="r")
    wanted = np.load(spec["plans"][0])
    return {"planned": fingerprint(cells, wanted), "everything": fingerprint_all(cells)}


def read(spec: dict[str, Any], bare_bytes: int) -> dict[str, Any]:
    """Measures epochs: from the second one on and for `least_s` where warm, one where cold."""
    plans = [np.load(file) for file in spec["plans"]]
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
    result: dict[str, Any] = {
        "num_slices": count,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "asked_bytes": end["rchar"] - begin["rchar"],
        "disk_bytes": end["read_bytes"] - begin["read_bytes"],
        "above_torch_bytes": resident_bytes("VmHWM") - bare_bytes,
    }
    if spec["check"]:
        result["delivered"] = delivered(epoch(plans[0], 0), spec)
    return result


def epochs(spec: dict[str, Any], _: int) -> dict[str, Any]:
    """Measures the epochs of the plans from nothing on: opening is in the first one.

    Two at least, no more than begin within `enough_s`. What the proxy at `counts_url` has counted
    is taken after each; what came is checked there.
    """
    way = getattr(load(spec), spec["function"])
    rows = np.load(spec["rows"]) if spec["rows"] else None
    cells = np.load(spec["cells"], mmap_mode="r")
    results, epoch, first_batch_s = [], None, 0.0
    ends = time.perf_counter() + spec["enough_s"]
    for epoch_no, file in enumerate(spec["plans"]):
        if epoch_no >= 2 and time.perf_counter() > ends:
            break
        wanted, came = np.load(file), []
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        epoch = epoch or way(Path(spec["target"]), spec["about"])
        for slices, numbers in epoch(wanted, epoch_no):
            first_batch_s = first_batch_s or time.perf_counter() - wall_s
            came.append((slices.clone(), numbers))
        result = {"wall_s": time.perf_counter() - wall_s, "cpu_s": time.process_time() - cpu_s}
        with urllib.request.urlopen(spec["counts_url"]) as answer:
            result["counts"] = json.loads(answer.read())
        if fingerprint_of(came, rows) != fingerprint(cells, wanted):
            raise ValueError(f"what came in epoch {epoch_no} is not what was asked for")
        results.append({**result, "num_slices": len(wanted)})
    return {"first_batch_s": first_batch_s, "epochs": results}


def warm_up(batches: Iterator[Batch]) -> None:
    """Takes the first batches, so that files are open and caches filled."""
    ends = time.perf_counter() + WARM_UP_S
    for _ in batches:
        if time.perf_counter() > ends:
            break
    close = getattr(batches, "close", None)
    if close is not None:
        close()


def delivered(batches: Iterator[Batch], spec: dict[str, Any]) -> list[Any]:
    """The fingerprint of what came; refuses batches that are not as the others'."""
    rows = np.load(spec["rows"]) if spec["rows"] else None
    shape, dtype = tuple(spec["about"]["shape"]), spec["about"]["dtype"]

    def alike() -> Iterator[Batch]:
        for slices, numbers in batches:
            if slices.shape[1:] != shape or str(slices.dtype) != f"torch.{dtype}":
                raise ValueError(f"batches are {slices.dtype} {list(slices.shape)}")
            yield slices, numbers

    return fingerprint_of(alike(), rows)


def fingerprint_of(batches: Iterable[Batch], rows: np.ndarray | None) -> list[int]:
    """The fingerprint of batches; `rows` are those of all slices where rows are their numbers."""
    count, total = 0, 0
    for slices, numbers in batches:
        numbers = np.asarray(numbers) if rows is None else np.searchsorted(rows, numbers)
        for number, cells in zip(numbers.tolist(), slices.numpy(), strict=True):
            count, total = count + 1, total + of_one(number, cells)
    return [count, total % 2**64]


def fingerprint(cells: np.ndarray, wanted: np.ndarray) -> list[int]:
    """(count, sum of a hash of each slice and its number), whatever the order."""
    total = sum(of_one(number, cells[number]) for number in wanted.tolist())
    return [len(wanted), total % 2**64]


def fingerprint_all(cells: np.ndarray) -> list[int]:
    """The fingerprint of all slices."""
    return fingerprint(cells, np.arange(len(cells)))


def of_one(number: int, cells: np.ndarray) -> int:
    """64 bits that tell one slice at one place from all others."""
    packed = struct.pack("<qI", number, zlib.crc32(np.ascontiguousarray(cells).data))
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little")


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


def versions(packages: list[str]) -> dict[str, str]:
    """The installed versions of these packages."""
    return {name: importlib.metadata.version(name) for name in packages}


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
