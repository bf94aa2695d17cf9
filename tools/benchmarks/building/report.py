"""Report of the build benchmark: medians, ratios, a chart."""

import statistics
from dataclasses import dataclass
from pathlib import Path

from tools.benchmarks.harness.chart import Bars, write_bars
from tools.benchmarks.harness.process import Measured
from tools.cli.tables import Table

MB = 1e6

EXPLANATION = (
    "Numeric libraries have one thread per process, but in the first row, where they take what "
    "they like, as in a notebook. Work: from the end of the imports, of the workers too, to the "
    "end. Whole: from starting Python on. Per core: by CPU time, all processes together. Decoding "
    "alone: libsndfile in blocks, nothing else. The files are in the page cache; ours are synced "
    "to disk, the .npy files are not."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way of making slices, and its place in the tables."""

    title: str
    name: str
    workers: int = 1
    one_thread: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Medians over the runs of one way."""

    way: Way
    work_s: float
    work_cpu_s: float
    whole_s: float
    whole_cpu_s: float
    startup_s: float
    num_slices: int
    stored_bytes: int
    peak_bytes: int
    above_imports_bytes: int


def median_of(way: Way, runs: list[tuple[Measured, int]]) -> Result:
    """The medians of one way's runs, each with the bytes that it left; of memory the most."""
    measured = [one for one, _ in runs]
    return Result(
        way=way,
        work_s=statistics.median(one.work_s for one in measured),
        work_cpu_s=statistics.median(one.work_cpu_s for one in measured),
        whole_s=statistics.median(one.whole_s for one in measured),
        whole_cpu_s=statistics.median(one.startup_cpu_s + one.work_cpu_s for one in measured),
        startup_s=statistics.median(one.startup_s for one in measured),
        num_slices=measured[0].answer["num_slices"],
        stored_bytes=runs[0][1],
        peak_bytes=max(one.peak_bytes for one in measured),
        above_imports_bytes=max(one.peak_bytes - one.imports_bytes for one in measured),
    )


def ways_of(workers: int) -> list[Way]:
    """The ways to be measured, in the order of the table."""
    return [
        Way(title="notebook: librosa, .npy", name="notebook", one_thread=False),
        Way(title="notebook, held to one thread", name="notebook"),
        Way(title=f"notebook in a joblib pool of {workers}", name="notebook", workers=workers),
        Way(title="melbank, 1 worker", name="ours"),
        Way(title=f"melbank, {workers} workers", name="ours", workers=workers),
        Way(title="decoding alone", name="floor"),
    ]


def ways_table(results: list[Result], audio_s: float) -> Table:
    """One row per way."""
    columns = (
        "way", "x real time", "x real time per core", "slices/s", "CPU ms/slice", "bytes/slice",
        "startup s", "whole s", "peak MB", "above imports MB",
    )  # fmt: skip
    num_slices = max(result.num_slices for result in results)
    rows = []
    for result in results:
        keeps = result.num_slices > 0
        cells = (
            result.way.title,
            f"{audio_s / result.work_s:,.0f}",
            f"{audio_s / result.work_cpu_s:,.0f}",
            f"{num_slices / result.work_s:,.0f}",
            f"{result.work_cpu_s / num_slices * 1e3:.2f}",
            f"{result.stored_bytes / result.num_slices:,.0f}" if keeps else "-",
            f"{result.startup_s:.1f}",
            f"{result.whole_s:.1f}",
            f"{result.peak_bytes / MB:,.0f}",
            f"{result.above_imports_bytes / MB:,.0f}",
        )
        rows.append(cells)
    return Table(columns=columns, rows=tuple(rows))


def ratios_table(results: list[Result], mel: dict[str, float]) -> Table:
    """Ratios for the work and for the whole process."""
    notebook, held, pool, one, several, floor = results
    count = several.way.workers

    def by_cpu(name: str, slow: Result, fast: Result) -> tuple[str, ...]:
        work, whole = slow.work_cpu_s / fast.work_cpu_s, slow.whole_cpu_s / fast.whole_cpu_s
        return (f"{name}, per core", f"{work:.2f}", f"{whole:.2f}")

    def by_time(name: str, slow: Result, fast: Result) -> tuple[str, ...]:
        work, whole = slow.work_s / fast.work_s, slow.whole_s / fast.whole_s
        return (f"{name}, by time", f"{work:.2f}", f"{whole:.2f}")

    rows = (
        by_cpu("melbank against the notebook held to one thread", held, one),
        by_cpu("melbank against the notebook", notebook, one),
        by_time("melbank against the notebook, 1 process each", notebook, one),
        by_time(f"melbank against the pool, {count} processes each", pool, several),
        by_time(f"melbank with {count} workers against 1", one, several),
        by_cpu("melbank against decoding alone, which is 1", floor, one),
        ("mel alone, against librosa, per core", f"{mel['librosa_ms'] / mel['ours_ms']:.2f}", "-"),
    )
    return Table(columns=("speed", "work", "whole process"), rows=rows)


def write_chart(results: list[Result], audio_s: float, name: str) -> str:
    """Writes the chart; returns the Markdown that shows it."""
    file = Path("docs") / f"benchmark_{name.replace(' ', '_')}.png"
    titles = tuple(result.way.title for result in results)
    write_bars(
        file,
        Bars(
            title="x real time, by the clock",
            labels=titles,
            values=tuple(audio_s / result.work_s for result in results),
        ),
        Bars(
            title="x real time per core, by CPU time",
            labels=titles,
            values=tuple(audio_s / result.work_cpu_s for result in results),
        ),
    )
    return f"![x real time of each way]({file.name})"
