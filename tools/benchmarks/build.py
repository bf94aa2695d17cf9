"""Measure how fast recordings become slices, against librosa in a notebook's loop.

    python -m tools.benchmark build benchmark.source_root=data benchmark.limit=200
    python -m tools.benchmark build benchmark.source_root=data benchmark.join_s=75 \\
        benchmark.repeat=3 --plot --markdown docs/benchmarks.md

On the same recordings, each in a process of its own and in turn: the notebook way (librosa per
slice, power_to_db, one float32 .npy per slice), the same held to one thread, the same in a joblib
pool, ours with one worker and with several, and decoding alone, below which nobody gets; by PyAV
too where it is installed (`uv run --with av`). About a minute a run per 2 h of audio.
"""

import shutil
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from storage.errors import ConfigError
from storage.options import check_at_least, check_positive, option
from tools.benchmarks.harness.chart import write_bars
from tools.benchmarks.harness.process import Result, check_measurable, run_measured
from tools.benchmarks.harness.recordings import (
    Recordings,
    find_recordings,
    join_recordings,
    link_recordings,
)
from tools.benchmarks.harness.runs import (
    MB,
    Columns,
    Medians,
    measure_in_turn,
    medians,
    table_of,
    work_folder,
)
from tools.cli.command import Arguments, Command
from tools.cli.tables import MARKDOWN, PLOT, Section, Table

MEL_SLICES, MEL_ROUNDS = 200, 5
TICK_S = 0.01  # CPU times come in such steps: a short run may have taken none
EXPLANATION = (
    "Numeric libraries have one thread per process, but in the first row, where they take what "
    "they like, as in a notebook. Work: from the end of the imports, of the workers too, to the "
    "end. Whole: from starting Python on. Per core: by CPU time, all processes together. Decoding "
    "alone: libsndfile in blocks, nothing else. The files are in the page cache; ours are synced "
    "to disk, the .npy files are not."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildBenchmarkConfig:
    """Recordings to measure, and repetitions."""

    source_root: str = option("data", "folder of recordings, as source.root")
    limit: int | None = option(None, "only the first so many of them")
    join_s: float | None = option(
        None, "join them to at least so many s each, as 32-kHz ogg; null: as they are"
    )
    repeat: int = option(1, "how often each is taken, under another name")
    runs: int = option(3, "runs of each way, in turn; the table has medians")
    workers: int = option(2, "processes of the parallel ways")
    long_recording: str = option("", "a very long file: how much memory does one take?")
    work_dir: str = option("", "folder for slices and stores; empty: the temporary one")
    label: str = option("", "names these recordings in the Markdown file, where there are several")

    def __post_init__(self) -> None:
        check_at_least(self, "benchmark", 1, "repeat", "runs")
        check_at_least(self, "benchmark", 2, "workers")
        check_positive(self, "benchmark", "join_s")
        if self.long_recording and not Path(self.long_recording).is_file():
            raise ConfigError(f"benchmark.long_recording={self.long_recording}: no such file")


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Config sections of this command."""

    benchmark: BuildBenchmarkConfig = field(default_factory=BuildBenchmarkConfig)


COMMAND = Command(doc=__doc__, sections=Sections, flags=(MARKDOWN, PLOT))


class Way(NamedTuple):
    """One way of making slices: its title in the tables, and its function in `variants`."""

    title: str
    name: str
    workers: int = 1
    one_thread: bool = True


def run_benchmark(config: Sections, arguments: Arguments) -> Section:
    """Measures all ways on all recordings."""
    check_measurable()
    chosen = config.benchmark
    with work_folder(chosen.work_dir) as folder:
        files, root = find_recordings(chosen.source_root, chosen.limit), folder / "source"
        if chosen.join_s is None:
            recordings = link_recordings(files, root, chosen.repeat)
        else:
            recordings = join_recordings(files, root, chosen.join_s, chosen.repeat)
        results = _measure_ways(_ways(chosen.workers), recordings, folder, chosen.runs)
        words = [str(recordings.root), str(MEL_SLICES), str(MEL_ROUNDS)]
        mel = run_measured("tools.benchmarks.building.mel_only", words)
        parts: list[Table | str] = [
            recordings.summary() + ". " + EXPLANATION,
            ways_table(results, recordings.audio_s),
            ratios_table(list(results.values()), mel, chosen.workers),
            f"mel alone: {mel['num_slices']} slices, librosa {mel['librosa_ms']:.2f} ms and ours "
            f"{mel['ours_ms']:.2f} ms of CPU each; they differ by {mel['difference_db']:.4f} dB "
            "at most.",
        ]
        if chosen.long_recording:
            parts += _long_parts(chosen, folder)
    name = "build " + chosen.label if chosen.label else "build"
    if arguments.plot:
        speeds = {
            title: [recordings.audio_s / result[cost] for result in results.values()]
            for title, cost in (
                ("x real time, by the clock", "work_s"),
                ("x real time per core, by CPU time", "work_cpu_s"),
            )
        }
        parts.append(write_bars(name, "x real time of each way", list(results), speeds))
    title = "Building: recordings into slices" + (f" ({chosen.label})" if chosen.label else "")
    return Section(name=name, title=title, parts=tuple(parts))


def _ways(workers: int) -> list[Way]:
    """Returns the ways to be measured, in the order of the table."""
    return [
        Way("notebook: librosa, .npy", "notebook", one_thread=False),
        Way("notebook, held to one thread", "notebook"),
        Way(f"notebook in a joblib pool of {workers}", "notebook", workers),
        Way("melbank, 1 worker", "ours"),
        Way(f"melbank, {workers} workers", "ours", workers),
        Way("decoding alone", "floor"),
        *([Way("decoding alone, PyAV", "pyav")] if find_spec("av") else []),
    ]


def _measure_ways(
    ways: list[Way], recordings: Recordings, folder: Path, runs: int
) -> dict[str, Medians]:
    """Returns the medians of each way by its title, of memory the most."""
    for file in recordings.files:
        file.read_bytes()  # into the page cache, before the first one's turn
    found = measure_in_turn(ways, runs, lambda way: _measure(way, recordings, folder))
    most = ("peak_bytes", "above_imports_bytes")
    return {way.title: medians(results, most) for way, results in found.items()}


def _measure(way: Way, recordings: Recordings, folder: Path) -> Result:
    """Runs one way once; the result has the bytes that it left too."""
    target = folder / "target"
    target.mkdir()
    try:
        words = [way.name, str(way.workers), str(recordings.root), str(target)]
        module = "tools.benchmarks.building.variants"
        result = run_measured(module, words, one_thread=way.one_thread)
        size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    finally:
        shutil.rmtree(target)
    return {**result, "stored_bytes": size}


def ways_table(results: dict[str, Medians], audio_s: float) -> Table:
    """Returns a row per way."""
    num_slices = max(one["num_slices"] for one in results.values())

    def bytes_per_slice(one: Medians) -> str:
        kept = one["num_slices"]
        return f"{one['stored_bytes'] / kept:,.0f}" if kept else "-"

    columns: Columns = {
        "x real time": lambda one: f"{audio_s / one['work_s']:,.0f}",
        "x real time per core": lambda one: f"{audio_s / max(one['work_cpu_s'], TICK_S):,.0f}",
        "slices/s": lambda one: f"{num_slices / one['work_s']:,.0f}",
        "CPU ms/slice": lambda one: f"{one['work_cpu_s'] / num_slices * 1e3:.2f}",
        "bytes/slice": bytes_per_slice,
        "startup s": lambda one: f"{one['startup_s']:.1f}",
        "whole s": lambda one: f"{one['whole_s']:.1f}",
        "peak MB": lambda one: f"{one['peak_bytes'] / MB:,.0f}",
        "above imports MB": lambda one: f"{one['above_imports_bytes'] / MB:,.0f}",
    }
    return table_of("way", columns, results)


def ratios_table(results: list[Medians], mel: Result, workers: int) -> Table:
    """Returns ratios for the work and for the whole process."""
    notebook, held, pool, one, several, floor, *pyav = results
    pairs = (
        ("melbank against the notebook held to one thread, per core", held, one),
        ("melbank against the notebook, per core", notebook, one),
        ("melbank against the notebook, 1 process each, by time", notebook, one),
        (f"melbank against the pool, {workers} processes each, by time", pool, several),
        (f"melbank with {workers} workers against 1, by time", one, several),
        ("melbank against decoding alone, which is 1, per core", floor, one),
        *(("decoding by PyAV against libsndfile, per core", floor, other) for other in pyav),
    )
    rows = []
    for title, slow, fast in pairs:
        unit = "s" if title.endswith("by time") else "cpu_s"
        ratios = [slow[f"{span}_{unit}"] / fast[f"{span}_{unit}"] for span in ("work", "whole")]
        rows.append((title, *(f"{ratio:.2f}" for ratio in ratios)))
    mel_alone = f"{mel['librosa_ms'] / mel['ours_ms']:.2f}"
    rows.append(("mel alone, against librosa, per core", mel_alone, "-"))
    return Table(columns=("speed", "work", "whole process"), rows=tuple(rows))


def _long_parts(config: BuildBenchmarkConfig, folder: Path) -> list[Table | str]:
    """Returns the memory that one very long recording takes."""
    recordings = link_recordings([Path(config.long_recording)], folder / "long", 1)
    ways = [way for way in _ways(config.workers) if way.workers == 1 and way.one_thread]
    return [
        f"One recording of {recordings.audio_s / 3600:.2f} h in one process:",
        ways_table(_measure_ways(ways, recordings, folder, 1), recordings.audio_s),
    ]
