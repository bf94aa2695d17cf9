"""Measure reading slices out of a store, against other ways of keeping arrays.

    python -m tools.benchmark store-read store=data/store
    python -m tools.benchmark store-read store=data/store --markdown docs/benchmarks.md

One random slice, a batch of 64 random ones, a full pass in batches of 64: ours, zarr-python on the
same store, and h5py, .npy files and np.memmap on copies. In one thread, from the page cache. About
a minute; copies take 100 kB per slice, by default 4,096 of them.
"""

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.errors import StoreError
from storage.format.zarr_shards import ARRAY
from storage.objects.urls import local_path
from storage.options import check_at_least, option
from storage.store import Store, open_store
from tools.benchmarks.harness.process import Result
from tools.benchmarks.harness.runs import Columns, measure_in_turn, medians, table_of, work_folder
from tools.benchmarks.reading.contenders import CELLS, COPY, STORE, Way
from tools.cli.command import Arguments, Command
from tools.cli.config import StoreSection
from tools.cli.tables import MARKDOWN, Section, Table

if TYPE_CHECKING:  # of torch, seconds of imports, which `--help` can do without
    from tools.benchmarks.ways.run_way import Batch, Epoch

    Read = Callable[[np.ndarray], Iterator[Batch]]  # yields the batches of these slices

BATCH = 64
HDF5 = {"h5py, lzf": "lzf", "h5py, gzip": "gzip"}
WAYS = (
    Way("melbank", "melbank", "store_rows", reads=STORE),
    Way("zarr-python, oindex", "zarr_python", "oindex", reads=STORE),
    Way("zarr-python, row by row", "zarr_python", "row_by_row", reads=STORE),
    *(Way(title, "hdf5", "selection") for title in HDF5),
    Way(".npy files", "npy_files", "load_each"),
    Way("np.memmap, uncompressed", "floors", "take", reads=CELLS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReadConfig:
    """Slices to read, and repetitions."""

    num_slices: int = option(4096, "slices to read among, spread over the store")
    repeats: int = option(30, "random reads of each kind; the table has medians")
    runs: int = option(3, "full passes; the table has the median")
    seed: int = option(0, "decides which slices")

    def __post_init__(self) -> None:
        check_at_least(self, "benchmark", 1, "num_slices", "repeats", "runs")


@dataclass(frozen=True, kw_only=True)
class Sections(StoreSection):
    """Config sections of this command."""

    benchmark: StoreReadConfig = field(default_factory=StoreReadConfig)


COMMAND = Command(doc=__doc__, sections=Sections, flags=(MARKDOWN,))


def run_benchmark(config: Sections, _: Arguments) -> Section:
    """Measures all contenders with the slices of one store."""
    chosen = config.benchmark
    with open_store(config.store, config.remote) as store, work_folder("") as copies:
        num_stored = len(store.slice_index())
        rows = _some_rows(store, chosen.num_slices)
        np.save(copies / "rows.npy", rows)
        np.save(copies / "cells.npy", store.read(rows))
        readers = {
            way.title: open_way(way, local_path(config.store), rows, copies)
            for way in WAYS
            if way.module != "hdf5" or importlib.util.find_spec("h5py")
        }
        table = _measure(readers, len(rows), chosen)
    intro = (
        f"{len(rows):,} slices of a store of {num_stored:,}; one thread, files in "
        "the page cache. melbank checks a crc32c of every slice that it reads, zarr-python those "
        "of the compressed bytes; the others check nothing."
    )
    return Section(name="store-read", title="Reading: slices out of a store", parts=(intro, table))


def open_way(way: Way, store: Path, rows: np.ndarray, folder: Path) -> "Read":
    """Opens a contender, with a copy of the cells in `folder` where it reads one, and checks it.

    Its batches are asked for by positions in `rows`, which is increasing. Raises StoreError where
    they have other cells.
    """
    from tools.benchmarks.ways.run_way import check

    module = importlib.import_module(f"tools.benchmarks.ways.{way.module}")
    cells = np.load(folder / "cells.npy", mmap_mode="r")
    target = {CELLS: folder / "cells.npy", COPY: folder / way.title, STORE: store}[way.reads]
    if way.reads == COPY:
        module.write(cells, target, *([HDF5[way.title]] if way.title in HDF5 else []))
    if way.module == "zarr_python":
        target = store / ARRAY
    about: dict[str, Any] = {"shape": cells.shape[1:], "dtype": cells.dtype, "batch_size": BATCH}
    epoch: Epoch = getattr(module, way.function)(target, about)

    def read(wanted: np.ndarray) -> "Iterator[Batch]":
        numbers = rows[wanted] if way.reads == STORE else wanted
        return epoch(np.split(numbers, range(BATCH, len(numbers), BATCH)), 0)

    rows_file = folder / "rows.npy" if way.reads == STORE else None
    spec = {"cells": folder / "cells.npy", "rows": rows_file}
    for wanted in (
        np.random.default_rng(0).integers(len(rows), size=8),
        np.arange(min(BATCH, len(rows))),
    ):
        try:
            check(read(wanted), wanted, spec)
        except ValueError as error:
            raise StoreError(f"{way.title}: {error}") from error
    return read


def _measure(readers: "dict[str, Read]", count: int, config: StoreReadConfig) -> Table:
    """Returns the medians of each contender; the ratios are to melbank, which comes first."""
    draws = {title: np.random.default_rng(config.seed) for title in readers}  # the same for all

    def read_random(title: str) -> Result:
        one, batch = (draws[title].integers(count, size=size) for size in (1, BATCH))
        return {
            "one_s": _seconds(readers[title], one),
            "batch_s": _seconds(readers[title], batch),
        }

    random = measure_in_turn(readers, config.repeats, read_random)
    passes = measure_in_turn(
        readers, config.runs, lambda title: {"pass_s": _seconds(readers[title], np.arange(count))}
    )
    found = {title: medians(random[title]) | medians(passes[title]) for title in readers}
    melbank_s = found[WAYS[0].title]["batch_s"]
    columns: Columns = {
        "one random slice, ms": lambda one: f"{one['one_s'] * 1e3:.3f}",
        f"{BATCH} random slices, ms": lambda one: f"{one['batch_s'] * 1e3:.2f}",
        "times melbank's": lambda one: f"{one['batch_s'] / melbank_s:.2g}",
        "full pass, slices/s": lambda one: f"{count / one['pass_s']:,.0f}",
    }
    missing = {f"{title}: h5py is not installed": None for title in HDF5 if title not in found}
    return table_of("way", columns, {**found, **missing})


def _seconds(read: "Read", wanted: np.ndarray) -> float:
    """Returns the time of reading all batches of the wanted slices, s."""
    began = time.perf_counter()
    for _ in read(wanted):
        pass
    return time.perf_counter() - began


def _some_rows(store: Store, limit: int) -> np.ndarray:
    """Rows in runs of a batch, which are apart where the store has more than are wanted."""
    rows = store.slice_index()["row"].to_numpy()
    runs = np.array_split(rows, max(1, len(rows) // BATCH))
    places = np.linspace(0, len(runs) - 1, min(len(runs), max(1, limit // BATCH))).astype(int)
    return np.concatenate([runs[place] for place in places.tolist()])[:limit]
