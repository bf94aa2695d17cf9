"""Measure how fast recordings become slices, against librosa in a notebook's loop.

    python -m tools.benchmark build benchmark.source_root=data benchmark.limit=200
    python -m tools.benchmark build benchmark.source_root=data benchmark.join_s=75 \\
        benchmark.repeat=3 --plot --markdown docs/benchmarks.md

On the same recordings, each in a process of its own and in turn: the notebook way (librosa per
slice, power_to_db, one float32 .npy per slice), the same held to one thread, the same in a joblib
pool, ours with one worker and with several, and decoding alone, below which nobody gets. About a
minute a run per 2 h of audio.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import ConfigError
from storage.options import check_at_least, check_positive, option
from tools.benchmarks.building.report import (
    EXPLANATION,
    MB,
    Result,
    Way,
    median_of,
    ratios_table,
    ways_of,
    ways_table,
    write_chart,
)
from tools.benchmarks.harness.process import Measured, check_measurable, run_measured
from tools.benchmarks.harness.recordings import (
    Recordings,
    find_recordings,
    join_recordings,
    link_recordings,
)
from tools.benchmarks.harness.work_folder import work_folder
from tools.cli.command import Arguments, Command
from tools.cli.progress_bars import bar
from tools.cli.tables import MARKDOWN, PLOT, Section, Table, publish

MEL_SLICES, MEL_ROUNDS = 200, 5


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


def main(config: Sections, arguments: Arguments) -> None:
    """Measures all ways, prints the tables, writes what was asked for."""
    check_measurable()
    section = run_benchmark(config.benchmark, plot=arguments.plot)
    publish(section, "build", arguments)


def run_benchmark(config: BuildBenchmarkConfig, *, plot: bool) -> Section:
    """All ways on all recordings, as a section of the report."""
    with work_folder(config.work_dir) as folder:
        recordings = _recordings(config, folder / "source")
        results = _measure_ways(config, recordings, folder)
        mel = run_measured(
            "tools.benchmarks.building.mel_only",
            [str(recordings.root), str(MEL_SLICES), str(MEL_ROUNDS)],
        ).answer
        parts: list[Table | str] = [
            recordings.summary() + ". " + EXPLANATION,
            ways_table(results, recordings.audio_s),
            ratios_table(results, mel),
            f"mel alone: {mel['num_slices']} slices, librosa {mel['librosa_ms']:.2f} ms and ours "
            f"{mel['ours_ms']:.2f} ms of CPU each; they differ by {mel['difference_db']:.4f} dB "
            "at most.",
        ]
        if config.long_recording:
            parts += _long_parts(config, folder)
    name = "build " + config.label if config.label else "build"
    if plot:
        parts.append(write_chart(results, recordings.audio_s, name))
    title = "Building: recordings into slices" + (f" ({config.label})" if config.label else "")
    return Section(name=name, title=title, parts=tuple(parts))


def _long_parts(config: BuildBenchmarkConfig, folder: Path) -> list[Table | str]:
    """Memory that one very long recording takes."""
    long = Path(config.long_recording)
    recordings = link_recordings([long], folder / "long", 1)
    rows = []
    for way in ways_of(config.workers):
        if way.workers == 1 and way.one_thread:
            result = median_of(way, [_measure(way, recordings, folder)])
            seconds, mb = f"{result.work_s:.1f}", f"{result.peak_bytes / MB:,.0f}"
            rows.append((way.title, seconds, mb, f"{result.above_imports_bytes / MB:,.0f}"))
    return [
        f"One recording of {recordings.audio_s / 3600:.2f} h in one process:",
        Table(columns=("way", "work s", "peak MB", "above imports MB"), rows=tuple(rows)),
    ]


def _recordings(config: BuildBenchmarkConfig, root: Path) -> Recordings:
    files = find_recordings(config.source_root, config.limit)
    if config.join_s is None:
        return link_recordings(files, root, config.repeat)
    return join_recordings(files, root, config.join_s, config.repeat)


def _measure_ways(
    config: BuildBenchmarkConfig, recordings: Recordings, folder: Path
) -> list[Result]:
    """All ways in turn, so that a change of the machine's mood meets all of them."""
    ways = ways_of(config.workers)
    measured: dict[Way, list[tuple[Measured, int]]] = {way: [] for way in ways}
    for file in recordings.files:
        file.read_bytes()  # into the page cache, before the first one's turn
    with bar("measuring", config.runs * len(ways), "run") as step:
        for _ in range(config.runs):
            for way in ways:
                measured[way].append(_measure(way, recordings, folder))
                step(1)
    return [median_of(way, measured[way]) for way in ways]


def _measure(way: Way, recordings: Recordings, folder: Path) -> tuple[Measured, int]:
    """One run of one way, and the bytes that it left."""
    target = folder / "target"
    target.mkdir()
    try:
        arguments = [way.name, str(way.workers), str(recordings.root), str(target)]
        measured = run_measured(
            "tools.benchmarks.building.variants", arguments, one_thread=way.one_thread
        )
        size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    finally:
        shutil.rmtree(target)
    return measured, size
