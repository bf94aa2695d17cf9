"""Measure reading slices out of a store, against other ways of keeping arrays.

    python -m tools.benchmark store-read store=data/store
    python -m tools.benchmark store-read store=data/store --markdown docs/benchmarks.md

One random slice, a batch of 64 random ones, a full pass in batches of 64: ours, zarr-python on the
same store, and h5py, .npy files and np.memmap on copies. In one thread, from the page cache. About
a minute; copies take 100 kB per slice, by default 4,096 of them.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from storage.errors import StoreError
from storage.objects.client import DEFAULT, RemoteConfig
from storage.options import check_at_least, option
from storage.store import Store, open_store
from tools.benchmarks.reading.peers import Peer, missing_peers, open_peers
from tools.cli.command import Arguments, Command
from tools.cli.config import StoreSection
from tools.cli.progress_bars import bar
from tools.cli.tables import MARKDOWN, Section, Table, publish

BATCH = 64
CHECKED = 8


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Medians of one peer, in s; the full pass per slice."""

    peer: Peer
    one_s: float
    batch_s: float
    pass_s: float


def main(config: Sections, arguments: Arguments) -> None:
    """Measures all peers, prints the table, writes it where asked for."""
    section = run_benchmark(config.store, config.benchmark, config.remote)
    publish(section, "store-read", arguments)


def run_benchmark(url: str, config: StoreReadConfig, remote: RemoteConfig = DEFAULT) -> Section:
    """All peers on the slices of one store, as a section of the report."""
    with open_store(url, remote) as store, tempfile.TemporaryDirectory(prefix="melbank-") as folder:
        rows = _some_rows(store, config.num_slices)
        peers = open_peers(store, rows, Path(folder))
        check_equal(peers, len(rows))
        speeds = _measure(peers, len(rows), config)
    intro = (
        f"{len(rows):,} slices of a store of {len(store.slice_index()):,}; one thread, files in "
        "the page cache. melbank checks a crc32c of every slice that it reads, zarr-python those "
        "of the compressed bytes; the others check nothing."
    )
    return Section(
        name="store-read",
        title="Reading: slices out of a store",
        parts=(intro, speeds_table(speeds, missing_peers())),
    )


def speeds_table(speeds: list[Speed], missing: dict[str, str]) -> Table:
    """One row per peer; the ratios are to melbank, which comes first."""
    ours = speeds[0]
    rows = [
        (
            speed.peer.title,
            f"{speed.one_s * 1e3:.3f}",
            f"{speed.batch_s * 1e3:.2f}",
            f"{speed.batch_s / ours.batch_s:.2g}",
            f"{1 / speed.pass_s:,.0f}",
        )
        for speed in speeds
    ]
    rows += [(f"{title}: {why}", "-", "-", "-", "-") for title, why in missing.items()]
    return Table(
        columns=(
            "way",
            "one random slice, ms",
            f"{BATCH} random slices, ms",
            "times melbank's",
            "full pass, slices/s",
        ),
        rows=tuple(rows),
    )


def check_equal(peers: list[Peer], count: int) -> None:
    """Raises StoreError unless all peers give the same cells."""
    rng = np.random.default_rng(0)
    wanted = rng.integers(count, size=CHECKED)
    neighbours = np.arange(min(CHECKED, count))
    for peer in peers[1:]:
        same = np.array_equal(peers[0].batch(wanted), peer.batch(wanted))
        if not (same and np.array_equal(peers[0].run(neighbours), peer.run(neighbours))):
            raise StoreError(f"{peer.title} reads other cells than melbank: its time says nothing")


def _measure(peers: list[Peer], count: int, config: StoreReadConfig) -> list[Speed]:
    """Peers in turn at each repeat, so that a change of the machine's mood meets all of them."""
    rng = np.random.default_rng(config.seed)
    taken: dict[str, list[list[float]]] = {peer.title: [[], [], []] for peer in peers}
    with bar("measuring", config.repeats + config.runs, "round") as step:
        for _ in range(config.repeats):
            one, batch = rng.integers(count, size=1), rng.integers(count, size=BATCH)
            for peer in peers:
                taken[peer.title][0].append(_seconds(peer.batch, one))
                taken[peer.title][1].append(_seconds(peer.batch, batch))
            step(1)
        for _ in range(config.runs):
            for peer in peers:
                taken[peer.title][2].append(_pass_seconds(peer, count) / count)
            step(1)
    return [
        Speed(
            peer=peer,
            one_s=statistics.median(taken[peer.title][0]),
            batch_s=statistics.median(taken[peer.title][1]),
            pass_s=statistics.median(taken[peer.title][2]),
        )
        for peer in peers
    ]


def _pass_seconds(peer: Peer, count: int) -> float:
    starts = range(0, count, BATCH)
    return sum(_seconds(peer.run, np.arange(start, min(start + BATCH, count))) for start in starts)


def _seconds(read: Callable[[np.ndarray], np.ndarray], wanted: np.ndarray) -> float:
    began = time.perf_counter()
    read(wanted)
    return time.perf_counter() - began


def _some_rows(store: Store, limit: int) -> np.ndarray:
    """Rows in runs of a batch, which are apart where the store has more than are wanted."""
    rows = store.slice_index()["row"].to_numpy()
    runs = np.array_split(rows, max(1, len(rows) // BATCH))
    places = np.linspace(0, len(runs) - 1, min(len(runs), max(1, limit // BATCH))).astype(int)
    return np.concatenate([runs[place] for place in places.tolist()])[:limit]
