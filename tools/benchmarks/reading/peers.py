"""The usual ways of keeping slices on disk, each with the same two reads.

All hold the same cells. A peer's `batch` and `run` return arrays equal to ours.
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from storage.format.zarr_shards import ARRAY
from storage.objects.urls import local_path
from storage.store import Store

H5PY_TITLES = {"lzf": "h5py, lzf", "gzip": "h5py, gzip"}

Read = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A way of reading; `batch` takes any slices, `run` neighbouring ones, a piece of a pass."""

    title: str
    batch: Read
    run: Read


def missing_peers() -> dict[str, str]:
    """The peers that cannot be measured here, with the reason."""
    if importlib.util.find_spec("h5py") is None:
        return dict.fromkeys(H5PY_TITLES.values(), "h5py is not installed")
    return {}


def open_peers(store: Store, rows: np.ndarray, folder: Path) -> list[Peer]:
    """Ours first, then the others; copies the slices `rows` into `folder` for each of them.

    All take positions in `rows`, which is increasing.
    """
    cells = store.read(rows)
    return [
        Peer(
            title="melbank",
            batch=lambda wanted: store.read(rows[wanted]),
            run=lambda wanted: store.read(rows[wanted]),
        ),
        *_zarr_peers(store, rows),
        *_h5py_peers(cells, folder),
        _npy_peer(cells, folder),
        _memmap_peer(cells, folder),
    ]


def _zarr_peers(store: Store, rows: np.ndarray) -> list[Peer]:
    """zarr-python on the store itself."""
    array: Any = zarr.open_array(str(local_path(store.url) / ARRAY), mode="r")

    def one_by_one(wanted: np.ndarray) -> np.ndarray:
        return np.stack([array[row] for row in rows[wanted].tolist()])

    def run(wanted: np.ndarray) -> np.ndarray:
        mine = rows[wanted]  # with gaps at the ends of parts
        pieces = np.split(mine, np.flatnonzero(np.diff(mine) > 1) + 1)
        return np.concatenate([array[int(piece[0]) : int(piece[-1]) + 1] for piece in pieces])

    return [
        Peer(title="zarr-python, oindex", batch=lambda wanted: array.oindex[rows[wanted]], run=run),
        Peer(title="zarr-python, row by row", batch=one_by_one, run=run),
    ]


def _h5py_peers(cells: np.ndarray, folder: Path) -> list[Peer]:
    if importlib.util.find_spec("h5py") is None:
        return []
    h5py = importlib.import_module("h5py")

    def peer(codec: str) -> Peer:
        file = h5py.File(folder / f"{codec}.h5", "w")
        data = file.create_dataset(
            "slices", data=cells, chunks=(1, *cells.shape[1:]), compression=codec
        )

        def batch(wanted: np.ndarray) -> np.ndarray:  # it wants increasing rows, each once
            increasing, back = np.unique(wanted, return_inverse=True)
            found: np.ndarray = data[increasing][back]
            return found

        return Peer(
            title=H5PY_TITLES[codec],
            batch=batch,
            run=lambda wanted: data[wanted[0] : wanted[-1] + 1],
        )

    return [peer(codec) for codec in H5PY_TITLES]


def _npy_peer(cells: np.ndarray, folder: Path) -> Peer:
    files = folder / "npy"
    files.mkdir()
    for number, slice_MT in enumerate(cells):
        np.save(files / f"{number}.npy", slice_MT)

    def read(wanted: np.ndarray) -> np.ndarray:
        return np.stack([np.load(files / f"{number}.npy") for number in wanted.tolist()])

    return Peer(title=".npy files", batch=read, run=read)


def _memmap_peer(cells: np.ndarray, folder: Path) -> Peer:
    cells.tofile(folder / "slices.raw")
    array = np.memmap(folder / "slices.raw", cells.dtype, "r", shape=cells.shape)
    return Peer(
        title="np.memmap, uncompressed",
        batch=lambda wanted: np.asarray(array[wanted]),
        run=lambda wanted: np.array(array[wanted[0] : wanted[-1] + 1]),
    )
