"""Report of `read`: medians, ratios, targets, a chart."""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.benchmarks.harness.chart import Bars, write_bars
from tools.benchmarks.reading.contenders import ARROW, FLOOR, OURS, Way
from tools.benchmarks.reading.plans import ONE, TASKS
from tools.benchmarks.reading.results import Results
from tools.benchmarks.reading.slices import Material
from tools.cli.tables import Table

MB = 1e6
WARM, COLD = "warm", "cold"
TIMES_PEER, TIMES_ARROW, FLOOR_SHARE, MEMORY_MB = 3.5, 1.2, 0.5, 150

EXPLANATION = (
    "Each run in a process of its own, held to one core and one thread, no worker processes; ways "
    "in turn, medians. CPU time is that of all threads of the process, of the reading alone: "
    "opening is not in it, drawing the epoch is for melbank, the others are given theirs. Batches "
    "are torch tensors in the cell type as stored. melbank's rows without a remark verify a crc32c "
    "of every slice; zarr-python verifies that of its compressed chunks, nobody else anything. A "
    "way that cannot pick slices reads all of them and drops those that are not wanted; only the "
    "wanted ones are counted. Floors fill one kept buffer. Asked: bytes that system calls returned "
    "(mapped files need none). Memory: the peak above a process that has imported torch, pages of "
    "mapped files included. A store keeps its slices compressed, so there is no raw one to measure."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A peer's copy of the slices, and the versions that wrote it."""

    versions: dict[str, str]
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Medians:
    """Medians over runs, per slice; of memory the most."""

    wall_s: float
    cpu_s: float
    asked_bytes: float
    disk_bytes: float
    above_torch_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """All runs on the slices of one cell type; `stayed`: the share that a cold cache held."""

    material: Material
    results: Results
    copies: dict[str, Copy]
    stayed: float
    tasks: tuple[str, ...]
    states: tuple[str, ...]
    runs: int

    def medians(self, task: str, state: str) -> dict[Way, Medians]:
        """Returns the medians of the contenders that were measured at a task in a state."""
        return {way: _medians(runs) for way, runs in self.results.at((task, state)).items()}


def sections_parts(measurements: Measurements, *, plot: bool) -> list[Table | str]:
    """The paragraphs and tables about one cell type."""
    material = measurements.material
    dtype, shape = material.about["dtype"], material.about["shape"]
    parts: list[Table | str] = [
        f"{dtype}: {material.num_slices:,} slices [{shape[0]}, {shape[1]}] of "
        f"{material.num_recordings:,} recordings, "
        f"{material.num_slices * material.slice_bytes / MB:,.0f} MB; {measurements.runs} runs. "
        + EXPLANATION,
        copies_table(measurements),
    ]
    for state in measurements.states:
        for task in measurements.tasks:
            title = f"{dtype}, {TASKS[task]}, {state}"
            if state == COLD:
                title += f" (at most {measurements.stayed:.1%} of a way's pages were still there)"
            parts += [f"**{title}**", speeds_table(measurements, task, state)]
    if dtype == "uint8" and ONE in measurements.tasks and WARM in measurements.states:
        parts += targets_parts(measurements.medians(ONE, WARM))
    if plot and WARM in measurements.states:
        parts.append(write_chart(measurements, dtype))
    return parts


def copies_table(measurements: Measurements) -> Table:
    """Disk space of each peer's copy."""
    rows = []
    plain_bytes = measurements.material.num_slices * measurements.material.slice_bytes
    for module, copy in measurements.copies.items():
        versions = ", ".join(f"{name} {version}" for name, version in copy.versions.items())
        size = copy.size_bytes
        rows.append((module, versions or "-", f"{size / MB:,.0f}", f"{size / plain_bytes:.2f}"))
    return Table(columns=("copy", "written by", "MB", "times the cells"), rows=tuple(rows))


def speeds_table(measurements: Measurements, task: str, state: str) -> Table:
    """One row per way; failures say why."""
    medians = measurements.medians(task, state)
    ours = next((found for way, found in medians.items() if way.title == OURS), None)
    floor = next((found for way, found in medians.items() if way.title == FLOOR), None)
    rows = []
    for way in measurements.results.ways:
        found = medians.get(way)
        if found is not None:
            cells = (
                f"{1 / found.wall_s:,.0f}",
                f"{1 / found.cpu_s:,.0f}",
                f"{found.cpu_s * 1e6:,.1f}",
                _ratio(found.cpu_s, ours),
                _ratio(floor.cpu_s, found, "%") if floor else "-",
                f"{found.asked_bytes / 1e3:,.1f}",
                f"{found.disk_bytes / 1e3:,.1f}",
                f"{found.above_torch_bytes / MB:,.0f}",
            )
            rows.append((way.title, *cells))
        elif task in way.tasks:
            reason = measurements.results.failures.get(way, "no run")
            rows.append((f"{way.title}: {reason}", *"--------"))
    columns = (
        "way", "slices/s", "slices per CPU s", "CPU us/slice", "times melbank's CPU",
        "of the pread floor", "asked kB/slice", "from disk kB/slice", "peak MB above torch",
    )  # fmt: skip
    return Table(columns=columns, rows=tuple(rows))


def targets_parts(medians: dict[Way, Medians]) -> list[Table | str]:
    """Targets and results: uint8, warm, one slice of each recording."""
    by_title = {way.title: found for way, found in medians.items()}
    ours = by_title.get(OURS)
    if ours is None:
        return []
    peers = {way.title: found.cpu_s / ours.cpu_s for way, found in medians.items() if way.peer}
    arrow = {title: times for title, times in peers.items() if title.startswith(ARROW)}
    others = {title: times for title, times in peers.items() if title not in arrow}
    rows = []
    for name, found, least in (
        ("any peer but Hugging Face's arrow", others, TIMES_PEER),
        ("Hugging Face's arrow", arrow, TIMES_ARROW),
    ):
        if found:
            nearest = min(found, key=found.__getitem__)
            rows.append(
                (f"CPU of {name}, times ours", f">= {least}", f"{found[nearest]:.2f} ({nearest})")
            )
    if FLOOR in by_title:
        share = by_title[FLOOR].cpu_s / ours.cpu_s
        rows.append(("of the pread floor", f">= {FLOOR_SHARE:.0%}", f"{share:.0%}"))
    memory_mb = ours.above_torch_bytes / MB
    rows.append(("peak MB above torch", f"<= {MEMORY_MB}", f"{memory_mb:,.0f}"))
    table = Table(columns=("target, with checksums", "aim", "measured"), rows=tuple(rows))
    return ["Targets, for uint8, warm, one slice of each recording:", table]


def write_chart(measurements: Measurements, dtype: str) -> str:
    """Writes the chart of CPU per slice, warm; returns the Markdown that shows it."""
    file = Path("docs") / f"benchmark_read_{dtype}.png"
    found = {task: measurements.medians(task, WARM) for task in measurements.tasks}
    ways = [way for way in measurements.results.ways if any(way in one for one in found.values())]
    panels = [
        Bars(
            title=f"CPU us per slice: {TASKS[task]}",
            labels=tuple(way.title for way in ways),
            values=tuple(medians[way].cpu_s * 1e6 if way in medians else math.nan for way in ways),
            logarithmic=True,
        )
        for task, medians in found.items()
    ]
    write_bars(file, *panels)
    return f"![{dtype}, CPU time per slice]({file.name})"


def _medians(runs: list[dict[str, Any]]) -> Medians:
    def per_slice(name: str) -> float:
        return float(statistics.median(run[name] / run["num_slices"] for run in runs))

    return Medians(
        wall_s=per_slice("wall_s"),
        cpu_s=per_slice("cpu_s"),
        asked_bytes=per_slice("asked_bytes"),
        disk_bytes=per_slice("disk_bytes"),
        above_torch_bytes=max(run["above_torch_bytes"] for run in runs),
    )


def _ratio(cpu_s: float, to: Medians | None, unit: str = "") -> str:
    if to is None:
        return "-"
    return f"{cpu_s / to.cpu_s:.0%}" if unit else f"{cpu_s / to.cpu_s:.2f}"
