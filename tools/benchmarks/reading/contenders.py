"""Contenders of `read` and `remote`, and the packages that each peer needs."""

import importlib.metadata
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.benchmarks.reading.plans import ALL, ONE
from tools.testbed.environments import python_with

CELLS, STORE, SHARDS, COPY = "cells", "store", "shards", "copy"
DEFAULT_FOLDER = "~/.cache/melbank/peers"


@dataclass(frozen=True, slots=True)
class Way:
    """One way of reading: a function of a module in `ways`, and its place in the tables.

    `peer` names an environment of `PEERS`, or is empty for ours. `reads` is what it
    reads: the file of all cells, our store or tars, or its own copy. `streams`: tasks in which it
    cannot take a plan and delivers every slice. `writer`: the function that writes its copy.
    """

    title: str
    module: str
    function: str
    peer: str = ""
    reads: str = COPY
    tasks: tuple[str, ...] = (ONE, ALL)
    streams: tuple[str, ...] = ()
    writer: str = "write"

    @property
    def copy(self) -> str:
        """Name of what it reads, which others may read too: its module's own copy, or ours."""
        if self.reads != COPY:
            return self.reads
        return self.module + self.writer.removeprefix("write")


OURS = "melbank, tars"
FLOOR = "floor: pread"
ARROW = "Hugging Face"
RANGED = "melbank, tars, ranged"

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
    Way(
        f"{ARROW}, Array2D, numpy",
        "hugging_face",
        "numpy_map",
        "huggingface",
        writer="write_array",
    ),
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

REMOTE_WAYS = (
    Way(RANGED, "melbank", "tars", reads=SHARDS),
    Way("melbank, tars, cached", "melbank", "tars_cached", reads=SHARDS),
    Way("melbank, store, ranged", "melbank", "store", reads=STORE),
    Way("webdataset, pipe:curl", "webdataset_tars", "piped", "webdataset"),
    Way("webdataset, pipe:curl, its cache", "webdataset_tars", "piped_and_kept", "webdataset"),
    Way("webdataset, s3fs", "webdataset_tars", "opened", "webdataset"),
    Way("MosaicML, by index", "mosaicml", "by_index", "mosaicml"),
    Way("LitData, by index", "litdata_chunks", "by_index", "litdata"),
)

# The library of each peer first, and what else it needs at the time of writing.
PEERS = {
    "webdataset": ("webdataset>=1.0,<2", "s3fs>=2025"),
    "mosaicml": ("mosaicml-streaming>=0.11,<1",),
    "litdata": ("litdata>=0.2.50,<1",),
    "huggingface": ("datasets>=4,<6",),
    "lance": ("pylance>=0.38,<9",),
    "hdf5": ("h5py>=3.13,<4",),
    "zarr": ("zarr>=3.1,<3.2",),
}


def python_of(peer: str, env_dir: str) -> Path:
    """Returns the interpreter that a peer runs in: this one, unless it has its own environment.

    No two libraries have to agree on versions so. An environment is made if it is not there: some
    GB each without uv, since torch is in all of them. Raises StoreError where it cannot be.
    """
    if peer not in PEERS:
        return Path(sys.executable)
    return peer_python(peer, PEERS[peer], env_dir)


def peer_python(peer: str, requirements: Sequence[str], env_dir: str) -> Path:
    """Returns the interpreter of an environment with these packages and the torch of this one."""
    library, *more = requirements
    torch = importlib.metadata.version("torch").partition("+")[0]
    name = f"{peer}-py{sys.version_info.major}{sys.version_info.minor}"
    folder = Path(env_dir or DEFAULT_FOLDER).expanduser() / name
    return python_with([library, f"torch=={torch}", "numpy>=1.26", *more], folder)
