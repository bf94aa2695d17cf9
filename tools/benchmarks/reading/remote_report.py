"""Report of `remote`: medians for each latency, and the targets."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from tools.benchmarks.reading.contenders import Way
from tools.benchmarks.reading.remote_contenders import RANGED
from tools.benchmarks.reading.results import Results
from tools.benchmarks.reading.slices import Material
from tools.cli.tables import Table

MB = 1e6
SHOWN_EPOCHS = (1, 2, 6)
TIMES_PEER, USEFUL_TIMES, FIRST_BATCH_S, TARGET_LATENCY_S = 3.0, 1.15, 2.0, 0.03

EXPLANATION = (
    "Each run in a process of its own, held to one core, from nothing on: no local copies, opening "
    "and its requests in the first epoch and in the time to the first batch; imports are not. Each "
    "epoch draws other slices and finds what those before have left; `-` where it would have "
    "begun after more than 15 s. Every way reads its own copy of the same slices, in its usual "
    "shard size; what arrived was compared with what was asked for, and the proxy counted requests "
    "and the bytes of their answers, shown as times those of the slices delivered (in a store they "
    "are compressed). A way that cannot pick slices reads all of them; only the wanted ones are "
    "counted."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One epoch: slices in a second, requests per slice, bytes over those of the slices."""

    slices_per_s: float
    requests: float
    bytes_times: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteMedians:
    """Medians over runs: of the first batch, and of each epoch that all runs have come to."""

    first_batch_s: float
    epochs: tuple[Epoch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteMeasurements:
    """All runs, by latency, and the network that they were made on."""

    material: Material
    results: Results
    latencies_s: tuple[float, ...]
    link_mb_s: float
    runs: int

    def medians(self, latency_s: float) -> dict[Way, RemoteMedians]:
        """Returns the medians of the contenders that were measured at a latency."""
        found = self.results.at(latency_s).items()
        return {way: _medians(runs, self.material.slice_bytes) for way, runs in found}


def _medians(runs: list[dict[str, Any]], slice_bytes: int) -> RemoteMedians:
    return RemoteMedians(
        first_batch_s=statistics.median(run["first_batch_s"] for run in runs),
        epochs=tuple(map(_median, zip(*(_epochs(run, slice_bytes) for run in runs), strict=False))),
    )


def _median(epochs: Sequence[Epoch]) -> Epoch:
    names = [entry.name for entry in fields(Epoch)]
    return Epoch(**{n: statistics.median(getattr(one, n) for one in epochs) for n in names})


def _epochs(run: dict[str, Any], slice_bytes: int) -> list[Epoch]:
    """The epochs of a run, each with its own counts: they were taken from the start on."""
    found, before = [], (0, 0)
    for epoch in run["epochs"]:
        counts, num_slices = epoch["counts"], epoch["num_slices"]
        now = sum(counts["requests"].values()), sum(counts["sent_bytes"].values())
        found.append(
            Epoch(
                slices_per_s=num_slices / epoch["wall_s"],
                requests=(now[0] - before[0]) / num_slices,
                bytes_times=(now[1] - before[1]) / (num_slices * slice_bytes),
            )
        )
        before = now
    return found


def remote_parts(found: RemoteMeasurements) -> Iterator[Table | str]:
    """Parts of the report."""
    material = found.material
    line = f"{found.link_mb_s:g} MB/s" if found.link_mb_s else "whatever this machine does"
    yield (
        f"One random slice of each of {material.num_recordings:,} recordings, of "
        f"{material.num_slices:,} slices of {material.slice_bytes:,} bytes; batches of "
        f"{material.about['batch_size']}; medians of {found.runs} runs. The line carries {line}."
    )
    for latency_s in found.latencies_s:
        medians = found.medians(latency_s)
        yield f"{latency_s * 1000:g} ms added to each request:"
        yield _table(medians)
        if latency_s == TARGET_LATENCY_S and medians:
            yield from targets(medians)
    for way, reason in found.results.failures.items():
        yield f"Not measured: {way.title}: {reason}"
    yield EXPLANATION


def _table(medians: dict[Way, RemoteMedians]) -> Table:
    shown = ", ".join(f"{epoch}." for epoch in SHOWN_EPOCHS)
    return Table(
        columns=(
            f"epochs {shown}",
            "first batch, s",
            "samples/s",
            "requests per slice",
            "bytes, times useful",
        ),
        rows=tuple(
            (
                way.title,
                f"{one.first_batch_s:.2f}",
                _cell(f"{epoch.slices_per_s:,.0f}" for epoch in one.epochs),
                _cell(f"{epoch.requests:.2f}" for epoch in one.epochs),
                _cell(f"{epoch.bytes_times:.2f}" for epoch in one.epochs),
            )
            for way, one in medians.items()
        ),
    )


def _cell(epochs: Iterable[str]) -> str:
    """The epochs that are shown, as far as they were measured."""
    told = list(epochs)
    return " / ".join(told[epoch - 1] if epoch <= len(told) else "-" for epoch in SHOWN_EPOCHS)


def targets(medians: dict[Way, RemoteMedians]) -> Iterator[str]:
    """Targets, and whether each is reached."""
    ours = {way.title: one for way, one in medians.items() if not way.peer}
    peers = {way.title: one.epochs[0].slices_per_s for way, one in medians.items() if way.peer}
    if ours and peers:
        name = max(peers, key=lambda title: peers[title])
        best = max(one.epochs[0].slices_per_s for one in ours.values())
        times = best / peers[name]
        yield (
            f"{_met(times >= TIMES_PEER)}: {times:.1f} times the samples/s of {name} in the first "
            f"epoch, to be at least {TIMES_PEER:g}."
        )
    if RANGED in ours:
        times = ours[RANGED].epochs[0].bytes_times
        yield (
            f"{_met(times <= USEFUL_TIMES)}: {times:.2f} times the useful bytes in ranged mode, to "
            f"be at most {USEFUL_TIMES:g}; opening is in it."
        )
    if ours:
        first_s = max(one.first_batch_s for one in ours.values())
        yield (
            f"{_met(first_s <= FIRST_BATCH_S)}: the first batch after {first_s:.2f} s at most, to "
            f"be under {FIRST_BATCH_S:g} s."
        )


def _met(reached: bool) -> str:
    return "Met" if reached else "Not met"
