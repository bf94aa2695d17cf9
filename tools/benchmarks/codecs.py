"""Measure ways of packing slices: size, and CPU time of packing, unpacking and reading.

    python -m tools.benchmark codecs store=data/store
    python -m tools.benchmark codecs store=data/store --markdown docs/benchmarks.md

Codecs that plain zarr-python reads, on slices of one store. Those that melbank writes are also read
by its own reader, in random batches of 64; so are uncompressed ones, as in tars. One thread, page
cache warm, CPU time. Half a minute for 1,000 slices.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numcodecs import LZ4, Blosc, Zstd

from storage.checksums import crc32c
from storage.format.chunk_codecs import CODECS, decode_chunk, encode_chunk
from storage.options import check_at_least, option
from storage.read.extents import RAW, ExtentReader, Extents
from storage.store import open_store
from tools.benchmarks.harness.process import Result
from tools.benchmarks.harness.runs import Columns, measure_in_turn, medians, table_of, work_folder
from tools.cli.command import Arguments, Command
from tools.cli.config import StoreSection
from tools.cli.tables import MARKDOWN, Section

BATCH = 64
BATCHES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """One way of packing slices; `codec` where melbank's reader has it."""

    pack: Callable[[np.ndarray], bytes]
    unpack: Callable[[bytes, np.ndarray], object]  # into uint8 [bytes]
    codec: str = ""


def melbanks(codec: str) -> Packing:
    """A codec of melbank's chunks, with their checksum."""
    return Packing(
        pack=lambda cells: encode_chunk(cells, codec),
        unpack=lambda packed, view: decode_chunk(packed, codec, view),
        codec=codec,
    )


def zarrs(codec: LZ4 | Blosc | Zstd) -> Packing:
    """A codec as zarr-python has it from numcodecs."""
    return Packing(pack=lambda cells: bytes(codec.encode(cells)), unpack=codec.decode)


def _copy(packed: bytes, view: np.ndarray) -> None:
    view.data[:] = packed


BLOSC = {
    f"blosc {name}, {shuffle}": zarrs(Blosc(name, clevel=5, shuffle=number))
    for name in ("lz4", "lz4hc", "zstd", "blosclz")
    for shuffle, number in (("no shuffle", Blosc.NOSHUFFLE), ("bitshuffle", Blosc.BITSHUFFLE))
}
PACKINGS = {
    **{f"melbank {codec}": melbanks(codec) for codec in CODECS},
    "none, as in tars": Packing(pack=np.ndarray.tobytes, unpack=_copy, codec=RAW),
    **{f"zstd, level {level}": zarrs(Zstd(level=level)) for level in (-5, 1, 3, 9)},
    "lz4, without blosc": zarrs(LZ4()),
    **BLOSC,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecsConfig:
    """Slices to pack, and repetitions."""

    num_slices: int = option(1000, "slices, drawn from the whole store")
    runs: int = option(5, "runs of each way, in turn; the table has medians")
    seed: int = option(0, "decides which slices, and the order of reading")

    def __post_init__(self) -> None:
        check_at_least(self, "benchmark", 1, "num_slices", "runs")


@dataclass(frozen=True, kw_only=True)
class Sections(StoreSection):
    """Config sections of this command."""

    benchmark: CodecsConfig = field(default_factory=CodecsConfig)


COMMAND = Command(doc=__doc__, sections=Sections, flags=(MARKDOWN,))


def run_benchmark(config: Sections, _: Arguments) -> Section:
    """Measures all ways on the slices of one store."""
    chosen = config.benchmark
    rng = np.random.default_rng(chosen.seed)
    with open_store(config.store, config.remote) as store, work_folder("") as folder:
        rows = store.slice_index()["row"].to_numpy()
        cells = store.read(rng.choice(rows, min(chosen.num_slices, len(rows)), replace=False))

        def run(title: str) -> Result:
            return _measure(PACKINGS[title], cells, folder, chosen.seed)

        found = measure_in_turn(PACKINGS, chosen.runs, run)
    columns: Columns = {
        "bytes a slice": lambda one: f"{one['num_bytes']:,.0f}",
        "of the cells": lambda one: f"{one['num_bytes'] / cells[0].nbytes:.0%}",
        "packing, us": lambda one: f"{one['pack_s'] * 1e6:.1f}",
        "unpacking, us": lambda one: f"{one['unpack_s'] * 1e6:.1f}",
        "random slice by melbank's reader, us": lambda one: (
            f"{one['read_s'] * 1e6:.1f}" if "read_s" in one else "-"
        ),
    }
    intro = (
        f"{len(cells):,} slices of {cells[0].nbytes:,} bytes out of {len(rows):,}; CPU time of one "
        "thread, page cache warm. Reading is pread, unpacking, a crc32c of the cells, and Python's "
        f"share, in random batches of {BATCH} into one kept buffer. zarr-python uses numcodecs for "
        "all of these."
    )
    table = table_of("way", columns, {title: medians(runs) for title, runs in found.items()})
    return Section(name="codecs", title="Codecs of stores", parts=(intro, table))


def _measure(packing: Packing, cells: np.ndarray, folder: Path, seed: int) -> Result:
    """Times per slice, s, of one way; raises ValueError where it gives other cells."""
    began = time.thread_time()
    packed = [packing.pack(one) for one in cells]
    packed_at = time.thread_time()
    view = np.empty(cells[0].nbytes, np.uint8)
    for one in packed:
        packing.unpack(one, view)
    unpacked_at = time.thread_time()
    if view.tobytes() != cells[-1].tobytes():
        raise ValueError("a codec gives other cells")
    found = {
        "num_bytes": float(np.mean([len(one) for one in packed])),
        "pack_s": (packed_at - began) / len(cells),
        "unpack_s": (unpacked_at - packed_at) / len(cells),
    }
    if packing.codec:
        found["read_s"] = _read_s(packing.codec, packed, cells, folder, seed)
    return found


def _read_s(
    codec: str, packed: Sequence[bytes], cells: np.ndarray, folder: Path, seed: int
) -> float:
    """CPU time of a random slice by our reader, s."""
    path = folder / codec
    path.write_bytes(b"".join(packed))
    lengths = np.array([len(one) for one in packed])
    extents = Extents(
        objects=(str(path),),
        object_no=np.zeros(len(packed), np.int32),
        offset=np.cumsum(lengths) - lengths,
        length=lengths,
        crc32c=np.array([crc32c(one) for one in cells], np.uint32),
        codecs=(codec,),
    )
    out = np.empty((BATCH, *cells.shape[1:]), cells.dtype)
    with ExtentReader() as reader:
        for wanted in _batches(len(cells), 0):
            reader.read(extents[wanted], out)
        began = time.thread_time()
        for wanted in _batches(len(cells), seed):
            reader.read(extents[wanted], out)
        return (time.thread_time() - began) / (BATCH * BATCHES)


def _batches(count: int, seed: int) -> Iterator[np.ndarray]:
    """Random batches of places."""
    rng = np.random.default_rng(seed)
    return (rng.integers(count, size=BATCH) for _ in range(BATCHES))
