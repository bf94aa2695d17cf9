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


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way of reading: a function of a module in `ways`, and its place in the tables.

    `peer` names an environment of `read_environments`, or is empty for ours. `reads` is what it
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
    Way(title=OURS, module="melbank", function="tars", reads=SHARDS),
    Way(
        title="melbank, tars, unchecked", module="melbank", function="tars_unchecked", reads=SHARDS
    ),
    Way(title="melbank, store", module="melbank", function="store", reads=STORE),
    Way(
        title="melbank, store, unchecked", module="melbank", function="store_unchecked", reads=STORE
    ),
    Way(title=FLOOR, module="floors", function="pread", reads=CELLS),
    Way(title="floor: np.take of a memmap", module="floors", function="take", reads=CELLS),
    Way(title=".npy files", module="npy_files", function="load_each", peer="npy"),
    Way(
        title="webdataset",
        module="webdataset_tars",
        function="stock",
        peer="webdataset",
        streams=(ALL,),
    ),
    Way(
        title="webdataset, choosing before decoding",
        module="webdataset_tars",
        function="choose_first",
        peer="webdataset",
        tasks=(ONE,),
    ),
    Way(title="MosaicML, by index", module="mosaicml", function="by_index", peer="mosaicml"),
    Way(
        title="MosaicML, streamed",
        module="mosaicml",
        function="streamed",
        peer="mosaicml",
        tasks=(ALL,),
        streams=(ALL,),
    ),
    Way(title="LitData, by index", module="litdata_chunks", function="by_index", peer="litdata"),
    Way(
        title="LitData, streamed",
        module="litdata_chunks",
        function="streamed",
        peer="litdata",
        tasks=(ALL,),
        streams=(ALL,),
    ),
    Way(
        title=f"{ARROW}, Array2D, numpy",
        module="hugging_face_array",
        function="numpy_map",
        peer="huggingface",
    ),
    Way(
        title=f"{ARROW}, flat, numpy",
        module="hugging_face",
        function="numpy_map",
        peer="huggingface",
    ),
    Way(
        title=f"{ARROW}, flat, torch",
        module="hugging_face",
        function="torch_map",
        peer="huggingface",
    ),
    Way(
        title=f"{ARROW}, flat, Arrow tables by hand",
        module="hugging_face",
        function="arrow_map",
        peer="huggingface",
    ),
    Way(
        title=f"{ARROW}, flat, iterable",
        module="hugging_face",
        function="iterable",
        peer="huggingface",
        tasks=(ALL,),
        streams=(ALL,),
    ),
    Way(title="Lance, take", module="lance_table", function="take", peer="lance"),
    Way(title="HDF5, h5py", module="hdf5", function="row_by_row", peer="hdf5"),
    Way(title="zarr-python", module="zarr_python", function="row_by_row", peer="zarr"),
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
