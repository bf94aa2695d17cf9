"""Contenders of `read`, and the run of one of them in a separate process."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import StoreError
from tools.benchmarks.harness.process import ONE_THREAD
from tools.benchmarks.reading.plans import ALL, ONE
from tools.cli.checkout import ROOT

FOLDER = Path(__file__).parents[1] / "ways"
CELLS, STORE, SHARDS, COPY = "cells", "store", "shards", "copy"
BOTH = (ONE, ALL)
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Way:
    """One way of reading: a function of a module in `ways`, and its place in the tables.

    `peer` names an environment of `environments.PEERS`, or is empty for ours. `reads` is what it
    reads: the file of all cells, our store or tars, or its own copy. `streams`: tasks in which it
    cannot take a plan and delivers every slice.
    """

    title: str
    module: str
    function: str
    peer: str = ""
    reads: str = COPY
    tasks: tuple[str, ...] = BOTH
    streams: tuple[str, ...] = ()


OURS = "melbank, tars"
FLOOR = "floor: pread"
ARROW = "Hugging Face"

WAYS = (
    Way(OURS, "melbank", "tars", reads=SHARDS),
    Way("melbank, tars, unchecked", "melbank", "tars_unchecked", reads=SHARDS),
    Way("melbank, store", "melbank", "store", reads=STORE),
    Way("melbank, store, unchecked", "melbank", "store_unchecked", reads=STORE),
    Way(FLOOR, "floors", "pread", reads=CELLS),
    Way("floor: np.take of a memmap", "floors", "take", reads=CELLS),
    Way(".npy files", "npy_files", "load_each", "npy"),
    Way("webdataset", "webdataset_tars", "stock", "webdataset", streams=(ALL,)),
    Way(
        "webdataset, choosing before decoding",
        "webdataset_tars",
        "choose_first",
        "webdataset",
        tasks=(ONE,),
    ),
    Way("MosaicML, by index", "mosaicml", "by_index", "mosaicml"),
    Way("MosaicML, streamed", "mosaicml", "streamed", "mosaicml", tasks=(ALL,), streams=(ALL,)),
    Way("LitData, by index", "litdata_chunks", "by_index", "litdata"),
    Way("LitData, streamed", "litdata_chunks", "streamed", "litdata", tasks=(ALL,), streams=(ALL,)),
    Way(f"{ARROW}, Array2D, numpy", "hugging_face_array", "numpy_map", "huggingface"),
    Way(f"{ARROW}, flat, numpy", "hugging_face", "numpy_map", "huggingface"),
    Way(f"{ARROW}, flat, torch", "hugging_face", "torch_map", "huggingface"),
    Way(f"{ARROW}, flat, Arrow tables by hand", "hugging_face", "arrow_map", "huggingface"),
    Way(
        f"{ARROW}, flat, iterable",
        "hugging_face",
        "iterable",
        "huggingface",
        tasks=(ALL,),
        streams=(ALL,),
    ),
    Way("Lance, take", "lance_table", "take", "lance"),
    Way("HDF5, h5py", "hdf5", "row_by_row", "hdf5"),
    Way("zarr-python", "zarr_python", "row_by_row", "zarr"),
)


def run_way(
    python: Path, spec: dict[str, Any], timeout_s: float, environment: Mapping[str, str] = NOTHING
) -> dict[str, Any]:
    """Runs `ways/run_way.py` in an interpreter, outside the checkout; returns its result.

    `environment` comes on top of this process's own.

    Raises StoreError, with the last line that it wrote, where it fails or takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="melbank-") as elsewhere:
        asked, answered = Path(elsewhere) / "spec.json", Path(elsewhere) / "result.json"
        asked.write_text(json.dumps(spec), encoding="utf-8")
        process = subprocess.Popen(
            [str(python), "-I", str(FOLDER / "run_way.py"), str(asked), str(answered)],
            cwd=elsewhere,
            # some leave locks and caches, in these places
            env={
                **os.environ,
                **environment,
                **ONE_THREAD,
                "TMPDIR": elsewhere,
                "HOME": elsewhere,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            _, errors = process.communicate(timeout=timeout_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise StoreError(f"it took longer than {timeout_s:g} s") from error
            raise
        if process.returncode or not answered.is_file():
            lines = errors.strip().splitlines() or [f"exit code {process.returncode}"]
            raise StoreError(lines[-1].strip())
        result: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
        return result


def spec_of(way: Way, job: str, **more: Any) -> dict[str, Any]:
    """Common part of the task of a contender."""
    project = str(ROOT) if way.module == "melbank" else ""
    module = str(FOLDER / f"{way.module}.py")
    return {"job": job, "module": module, "function": way.function, "project": project, **more}


def our_python() -> Path:
    """The interpreter that melbank runs in."""
    return Path(sys.executable)
